"""Each format as its readers open it: OpenSSL, a JRE; and what follows when a setting changes."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from internal_puller.install.formats import FILE_NAMES, Rendering, render
from internal_puller.install.generations import Generations
from internal_puller.install.presets import Plan, resolve
from internal_puller.install.verify import check_files, rebuild, verify_active
from internal_puller.settings.targets import FORMATS, PKCS12_ALGORITHMS, Target
from tests.unit.internal_puller.install.helpers import NAME, material, put

PASSWORD = "pass word"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    return Target(NAME, (NAME,), tmp_path / "live", formats=FORMATS, pkcs12_password_file=password)


def ran(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def openssl(*argv: str) -> str:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    return ran("openssl", *argv)


def current(target: Target, name: str) -> str:
    return str(target.directory / "current" / name)


@pytest.mark.parametrize(
    ("algorithms", "words"),
    [
        ("modern", ("PBES2, PBKDF2, AES-256-CBC", "MAC: sha256")),
        ("legacy", ("pbeWithSHA1And3-KeyTripleDES-CBC", "MAC: sha1")),
    ],
)
def test_openssl_reads_the_pkcs12(target: Target, algorithms: str, words: tuple[str, ...]) -> None:
    assert put(dataclasses.replace(target, pkcs12_algorithms=algorithms), 1).error is None
    options = ("-passin", f"file:{target.pkcs12_password_file}", "-info", "-nodes")
    shown = openssl("pkcs12", "-in", current(target, "bundle.p12"), *options)
    assert shown.count("BEGIN CERTIFICATE") == 2
    assert shown.count("BEGIN PRIVATE KEY") == 1
    for word in words:
        assert word in shown
    assert ("RC2" in shown) is False


@pytest.mark.parametrize("algorithms", PKCS12_ALGORITHMS)
def test_java_reads_the_pkcs12(target: Target, algorithms: str) -> None:
    if not shutil.which("keytool"):
        pytest.skip("no JRE is installed")
    assert put(dataclasses.replace(target, pkcs12_algorithms=algorithms), 1).error is None
    options = ("-storetype", "PKCS12", "-storepass", PASSWORD)
    shown = ran("keytool", "-list", "-v", "-keystore", current(target, "bundle.p12"), *options)
    assert "PrivateKeyEntry" in shown
    assert "Certificate chain length: 2" in shown


def test_openssl_reads_the_der(target: Target) -> None:
    assert put(target, 1).error is None
    leaf = openssl(
        "x509", "-inform", "DER", "-in", current(target, "cert.der"), "-pubkey", "-noout"
    )
    key = openssl("pkey", "-inform", "DER", "-in", current(target, "privkey.der"), "-pubout")
    assert leaf == key
    assert leaf == openssl("x509", "-in", current(target, "cert.pem"), "-pubkey", "-noout")


@pytest.mark.parametrize(
    ("preset", "given", "first"),
    [
        ("none", None, "CERTIFICATE"),
        ("haproxy", None, "CERTIFICATE"),
        ("postfix", None, "PRIVATE KEY"),
        ("postfix", "leaf-first", "CERTIFICATE"),
        ("haproxy", "key-first", "PRIVATE KEY"),
    ],
)
def test_the_order_of_the_combined_file(
    target: Target, preset: str, given: str | None, first: str
) -> None:
    target = dataclasses.replace(
        target, preset=preset, combined_order=given, test_command=(), reload_command=(), probe=()
    )
    assert put(target, 1).error is None
    content = Path(current(target, "combined.pem")).read_text()
    assert content.startswith(f"-----BEGIN {first}-----\n")
    assert content.count("-----BEGIN ") == 3
    assert verify_active(target).problems == ()
    assert openssl("pkey", "-in", current(target, "combined.pem"), "-pubout")


def test_every_text_has_lf_and_one_newline_at_its_end(target: Target) -> None:
    made = material(1)
    made = dataclasses.replace(
        made,
        chain_pem="\r\n" + made.chain_pem.replace("\n", "\r\n") + "\r\n\r\n",
        key_pem=made.key_pem.replace(b"\n", b"\r\n") + b"\r\n",
    )
    files = render(made, Rendering(FORMATS, b"x", given_away=True))
    binary = {FILE_NAMES[one] for one in ("pkcs12", "cert-der", "privkey-der")}
    assert binary < set(files)
    for name in set(files) - binary:
        content = files[name].content
        assert b"\r" not in content, name
        assert content.endswith(b"\n"), name
        assert b"\n\n" not in content, name


PAIRS = (
    *(("combined",), ("pkcs12",), ("fullchain", "privkey"), ("fullchain", "pkcs12")),
    *(("cert", "chain", "privkey-der"), ("cert-der", "chain", "privkey"), ("cert-der", "pkcs12")),
)


@pytest.mark.parametrize("formats", PAIRS, ids="+".join)
@pytest.mark.parametrize("order", ["leaf-first", "key-first"])
def test_chain_and_key_are_found_again(
    target: Target, formats: tuple[str, ...], order: str
) -> None:
    target = dataclasses.replace(target, formats=formats, combined_order=order)
    assert put(target, 1).error is None
    files, plan = files_of(target), resolve(target)
    assert check_files(files, plan).problems == ()
    found = rebuild(files, plan)
    assert found is not None
    assert (found.chain, found.generation) == (material(1).chain, 1)
    assert found.leaf_sha256 == material(1).leaf_sha256
    found.check_pair()


def test_half_a_chain_is_not_written_in_other_formats(target: Target) -> None:
    """The leaf alone would become a fullchain.pem without its issuer."""
    target = dataclasses.replace(target, formats=("cert", "privkey"))
    assert put(target, 1).error is None
    assert verify_active(target).problems == ()
    assert rebuild(files_of(target), resolve(target)) is None


def files_of(target: Target) -> dict[str, bytes]:
    directory = (target.directory / "current").resolve()
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    "change",
    [{"pkcs12_algorithms": "legacy"}, {"combined_order": "key-first"}, {"formats": ("combined",)}],
)
@pytest.mark.parametrize("given_away", [False, True])
def test_a_change_writes_new_files(
    target: Target, change: dict[str, object], given_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given_away:  # as if the files were another account's, which hides them from us
        monkeypatch.setattr("internal_puller.install.generations._readable", _only_own)
        monkeypatch.setattr(Plan, "rendering", property(_given_away))
    changed = dataclasses.replace(target, **change)  # type: ignore[arg-type]
    assert target.shape != changed.shape
    assert (put(target, 1).changed, put(target, 1).changed) == (True, False)
    assert (put(changed, 1).changed, put(changed, 1).changed) == (True, False)
    assert given_away or verify_active(changed).problems == ()
    with Generations(changed, read_only=True) as generations:
        assert generations.names() == ["1", "1.1"]


def _only_own(directory: object, name: str) -> bytes | None:
    content: bytes = directory.read(name)[0]  # type: ignore[attr-defined]
    return content if name in ("own.pem", "generation.json") else None


def _given_away(plan: Plan) -> Rendering:
    own = plan.target
    algorithms = own.pkcs12_algorithms
    return Rendering(plan.formats, plan.password, algorithms, plan.combined, given_away=True)


def test_an_older_way_of_writing_is_still_whole(target: Target) -> None:
    """So that a rollback to a generation from before the change is not refused."""
    assert put(target, 1).error is None
    changed = dataclasses.replace(target, pkcs12_algorithms="legacy", combined_order="key-first")
    assert verify_active(changed).problems == ()
