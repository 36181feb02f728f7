"""The schemes of probe points, in the file and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.commands.targets import _point
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.protocols import PORTS, split, usual_port
from internal_puller.settings.targets import load_targets, save_targets
from shared.contract.errors import ConfigurationError

NAME = "www.intra.example.com"


def test_every_scheme_alone_and_behind_either_header() -> None:
    for scheme, port in PORTS.items():
        assert split(scheme) == (0, scheme)
        assert split(f"proxy+{scheme}") == (1, scheme)
        assert split(f"proxy2+{scheme}") == (2, scheme)
        assert usual_port(scheme) == usual_port(f"proxy+{scheme}") == port


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("imaps4", "imaps"),
        ("postgres", "postgresql"),
        ("TLS", "tls"),
        ("proxy1+tls", "proxy+tls"),
        ("proxy2+imapp", "proxy2+imap"),
        ("+tls", "tls"),
        ("tls+proxy", "proxy+tls"),
        ("proxy+proxy2+tls", "proxy2+tls"),
        ("mariadb", "ldap"),
        ("", "tls"),
    ],
)
def test_unknown_one_gets_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ProbePoint("127.0.0.1", 443, NAME, wrong)
    assert f"{wrong!r} is not a way to probe" in refused.value.what
    if wrong not in ("", "mariadb", "proxy+proxy2+tls", "tls+proxy"):
        assert f"the nearest is {near!r}" in refused.value.what


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("127.0.0.1", ("127.0.0.1", 443, NAME, "tls")),
        ("imaps://mail.example.com", ("mail.example.com", 993, NAME, "imaps")),
        ("proxy+tls://[::1]:8443/a.example.com", ("::1", 8443, "a.example.com", "proxy+tls")),
        ("proxy2+smtp://10.0.0.1", ("10.0.0.1", 25, NAME, "proxy2+smtp")),
        ("xmpp-server://10.0.0.1", ("10.0.0.1", 5269, NAME, "xmpp-server")),
    ],
)
def test_command_line(text: str, point: tuple[str, int, str, str]) -> None:
    assert _point(text, NAME) == ProbePoint(*point)


def test_what_is_wrong_says_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--probe 'imap4://x': 'imap4' .* 'imap'"):
        _point("imap4://x", NAME)
    with pytest.raises(ConfigurationError, match=r"is not .*SCHEME"):
        _point("tls://x:y:z", NAME)
    path = tmp_path / "targets.toml"
    target = (
        f'[[target]]\ncertificate = "{NAME}"\nnames = ["{NAME}"]\ndirectory = "/srv/x"\n'
        f'probe = [{{ address = "127.0.0.1", sni = "{NAME}", protocol = "SCHEME" }}]\n'
    )
    path.write_text(target.replace("SCHEME", "postgress"))
    with pytest.raises(ConfigurationError) as refused:
        load_targets(path)
    assert "target 1: probe: 'postgress'" in refused.value.what
    assert "the nearest is 'postgresql'" in refused.value.what
    path.write_text(target.replace("SCHEME", "proxy2+mysql"))
    (loaded,) = load_targets(path)
    assert loaded.probe == (ProbePoint("127.0.0.1", 3306, NAME, "proxy2+mysql"),)
    save_targets(path, (loaded,))
    assert load_targets(path) == (loaded,)
