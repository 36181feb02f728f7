"""Which roots count where nobody named any: the machine's own, everywhere the same."""

from __future__ import annotations

import ast
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest

from internal_puller.install.roots import anchors_of
from internal_puller.settings.targets import Target
from internal_puller.sources.agent.network import verifying_context
from shared.contract.x509 import load_roots
from shared.host import public_roots
from shared.host.public_roots import public_roots_file
from tests.authority import Authority

SOURCES = Path(__file__).resolve().parents[4]
Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Let a machine have these files of roots, and nothing else."""

    def make(*contents: str | None) -> Path:
        paths = [tmp_path / f"store{number}.pem" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            if content is not None:
                path.write_text(content)
        built = SimpleNamespace(openssl_cafile=str(paths[0]))
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: built)
        monkeypatch.setattr(public_roots, "_USUAL", tuple(map(str, paths[1:])))
        return paths[0]

    return make


def pem() -> str:
    return Authority.make().root_pem.decode()


def test_the_machine_s_store_and_nothing_beside_it(store: Store) -> None:
    """A root that the administrator took out does not count again because certifi has it."""
    only = pem()
    path = store(only)
    assert public_roots_file() == path
    (anchors,) = anchors_of([Target("a.example.com", ("a.example.com",), Path("/x"))])
    assert list(anchors) == load_roots(only.encode())
    assert verifying_context(None).cert_store_stats()["x509_ca"] == 1


def test_a_target_s_own_root_stands_alone(store: Store, tmp_path: Path) -> None:
    store(pem())
    own = tmp_path / "own.pem"
    own.write_text(pem())
    (anchors,) = anchors_of([Target("a.example.com", ("a.example.com",), Path("/x"), roots=own)])
    assert list(anchors) == load_roots(own.read_bytes())


@pytest.mark.parametrize("contents", [(None, None), ("",), ("no certificate",), (None, "")])
def test_certifi_stands_in_where_there_is_no_store(
    store: Store, contents: tuple[str | None, ...]
) -> None:
    store(*contents)
    assert public_roots_file() == Path(certifi.where())


def test_a_python_that_brought_its_own_openssl_finds_the_machine_s_store(store: Store) -> None:
    first = store(None, pem())
    assert public_roots_file() == first.with_name("store1.pem")


def test_the_environment_does_not_decide(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(pem())
    other = tmp_path / "other.pem"
    other.write_text(pem())
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(other))
    assert public_roots_file() == path


def test_nobody_else_asks_for_roots() -> None:
    """One function says which roots count: nothing of ours imports certifi beside it."""
    importing = [
        path.relative_to(SOURCES).as_posix()
        for side in ("external_agent", "internal_puller", "shared")
        for path in (SOURCES / side).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import) and any(one.name == "certifi" for one in node.names)
    ]
    assert importing == ["shared/host/public_roots.py"]
