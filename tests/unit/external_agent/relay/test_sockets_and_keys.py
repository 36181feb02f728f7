"""Addresses, inherited sockets, and the files of secrets."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509

from external_agent.composition.agent import open_sockets
from external_agent.settings import addresses, keys
from shared.contract.errors import ConfigurationError, LooseFileMode, PortUnavailable
from tests.unit.external_agent.harness import START, settings_in


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("0.0.0.0:80", "0.0.0.0:80", False),
        ("[::]:80", "[::]:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", True),
        ("[::1]:8080", "[::1]:8080", True),
        ("[0:0::1]:1", "[::1]:1", True),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = addresses.parse_address(text)
    assert (str(address), address.is_loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "localhost:80", "::1:80", "[127.0.0.1]:80", "0.0.0.0:65536", "1:x"]
)
def test_other_texts_are_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError):
        addresses.parse_address(text)


def test_a_taken_port_leaves_nothing_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = settings_in(tmp_path, listen=[f"127.0.0.1:{port}"])
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(PortUnavailable, match="relay listener cannot bind"):
            open_sockets(settings, {})
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "challenge"}
    assert addresses.passed_sockets(environ, os.getpid()) == {}
    assert addresses.passed_sockets({}, os.getpid()) == {}


def test_files_are_0600_from_birth_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        state = tmp_path / "deep" / "state"
        keys.make_directory(state)
        keys.make_keys(state, "relay.example.com", START)
    finally:
        os.umask(old)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert keys.load_keys(state).signing.id


def test_a_secret_is_never_written_over_or_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keys.write_secret(path, b"one")
    with pytest.raises(ConfigurationError):
        keys.write_secret(path, b"two")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigurationError):
        keys.write_secret(tmp_path / "link", b"two")
    assert path.read_bytes() == b"one"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o644])
def test_loose_files_are_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    keys.write_secret(path, b"secret")
    path.chmod(mode)
    with pytest.raises(LooseFileMode, match=f"mode {mode:04o}"):
        keys.read_secret(path)


def test_directories_and_pipes_are_no_key_files(tmp_path: Path) -> None:
    keys.write_secret(tmp_path / "key", b"secret")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    for name in ("pipe", "directory", "missing"):
        with pytest.raises(ConfigurationError):
            keys.read_secret(tmp_path / name)


@pytest.mark.parametrize(("name", "content"), [("agent-signing.key", b"x"), ("account.key", b"x")])
def test_damaged_keys_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    state = tmp_path / "state"
    keys.make_directory(state)
    keys.make_keys(state, "relay.example.com", START)
    (state / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        keys.load_keys(state)


@pytest.mark.parametrize("name", [keys.SIGNING_KEY_FILE, keys.ACCOUNT_KEY_FILE])
def test_an_agent_without_its_keys_does_not_start(tmp_path: Path, name: str) -> None:
    """A database alone makes no agent: what is missing is not made anew."""
    state = tmp_path / "state"
    keys.make_directory(state)
    keys.make_keys(state, "relay.example.com", START)
    (state / name).unlink()
    with pytest.raises(ConfigurationError, match=name):
        keys.load_keys(state)
    assert not (state / name).exists()


def test_the_self_made_certificate(tmp_path: Path) -> None:
    state = tmp_path / "state"
    keys.make_directory(state)
    keys.make_keys(state, "192.0.2.7", START)
    found = x509.load_pem_x509_certificate((state / keys.TLS_CERTIFICATE_FILE).read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    assert len(keys.certificate_pin(state / keys.TLS_CERTIFICATE_FILE)) == 64
