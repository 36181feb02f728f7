"""TSIG keys from files: BIND's form, a bare secret, and everything that is not usable."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.acme.dns01.settings import Rfc2136Settings
from shared.acme.dns01.tsig_key import read_tsig_key
from shared.contract.errors import ConfigurationError, LooseFileMode
from tests.dns_peers import TsigKey

SECRET = "//////////8AAAAAAAAAAAAAAAA="  # two slashes begin a comment elsewhere


def _read(path: Path, text: str, **more: str) -> tuple[str, bytes, str]:
    path.touch(0o600)
    path.write_text(text)
    key = read_tsig_key(Rfc2136Settings("192.0.2.1", path, **more))  # type: ignore[arg-type]
    return key.name.to_text(True), key.secret, key.algorithm.to_text(True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key"


def test_as_tsig_keygen_writes_it(path: Path) -> None:
    key = TsigKey("relay", "hmac-sha384")
    name, secret, algorithm = _read(path, key.in_bind_form)
    assert (name, algorithm) == ("relay", "hmac-sha384")
    assert secret == key.for_dnspython.secret


def test_comments_and_slashes_in_a_secret(path: Path) -> None:
    text = f"""# made by hand // yes
/* key "old" {{ secret "eA=="; }}; */
key relay. {{ algorithm "HMAC-SHA256"; // the usual
  secret "{SECRET}"; }};"""
    assert _read(path, text)[0] == "relay"


def test_one_of_several(path: Path) -> None:
    text = TsigKey("a").in_bind_form + TsigKey("b").in_bind_form
    assert _read(path, text, key_name="b.")[0] == "b"
    with pytest.raises(ConfigurationError, match="holds the keys a, b"):
        _read(path, text)
    with pytest.raises(ConfigurationError, match="holds the keys a, b, not 'c'"):
        _read(path, text, key_name="c")


def test_a_bare_secret(path: Path) -> None:
    name, _, algorithm = _read(path, SECRET + "\n", key_name="relay.example.com")
    assert (name, algorithm) == ("relay.example.com", "hmac-sha256")
    assert _read(path, SECRET, key_name="r", algorithm="hmac-sha512")[2] == "hmac-sha512"


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (SECRET, {}, "key_name is needed"),
        ("", {}, "holds no TSIG key"),
        ("what is this?", {}, "holds no TSIG key"),
        ('key "r" { algorithm hmac-sha256; };', {}, "lacks its algorithm or secret"),
        (f'key "r" {{ algorithm hmac-md5; secret "{SECRET}"; }};', {}, "hmac-md5, not one of"),
        (
            f'key "r" {{ algorithm hmac-sha256; secret "{SECRET}"; }};',
            {"algorithm": "hmac-sha512"},
            "is for hmac-sha256, .* says hmac-sha512",
        ),
        ("c2hvcnQ=", {"key_name": "r"}, "has 40 bits; 128 are the least"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAA", {"key_name": "r"}, "is malformed"),
    ],
)
def test_what_is_refused(path: Path, text: str, more: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        _read(path, text, **more)


def test_files_that_others_may_read_or_that_are_not_there(path: Path) -> None:
    settings = Rfc2136Settings("192.0.2.1", path)
    with pytest.raises(ConfigurationError, match="There is no TSIG key file"):
        read_tsig_key(settings)
    TsigKey().write(path).chmod(0o644)
    with pytest.raises(LooseFileMode, match="mode 0644"):
        read_tsig_key(settings)
    path.chmod(0o600)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_tsig_key(settings)
