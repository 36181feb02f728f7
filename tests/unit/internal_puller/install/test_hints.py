"""The lines for a server's configuration: of the version that is there, else of every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.hints import hint_lines, version_of
from internal_puller.settings.targets import Target
from shared.host import commands

NAME = "mail.example.com"
OLD = [
    "    ssl_cert = </srv/tls/current/fullchain.pem",
    "    ssl_key = </srv/tls/current/privkey.pem",
]
NEW = [
    "    ssl_server_cert_file = /srv/tls/current/fullchain.pem",
    "    ssl_server_key_file = /srv/tls/current/privkey.pem",
]


def target(**members: Any) -> Target:
    return Target(NAME, (NAME,), Path("/srv/tls"), **members)


@pytest.fixture
def dovecot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says which version it is."""
    monkeypatch.setattr(commands, "SEARCH_PATH", str(tmp_path))
    return tmp_path / "dovecot"


def says(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "lines", "heading"),
    [
        ("2.3.19.1 (9b53102964)", OLD, "Let Dovecot before version 2.4 use:"),
        ("2.4.1-4 (7d8c0e5759)", NEW, "Let Dovecot from version 2.4 on use:"),
        ("2.10.0", NEW, "Let Dovecot from version 2.4 on use:"),
    ],
)
def test_lines_by_version(dovecot: Path, version: str, lines: list[str], heading: str) -> None:
    says(dovecot, version)
    assert hint_lines(target(preset="dovecot")) == (heading, *lines)


@pytest.mark.parametrize("said", [None, "no number"])
def test_a_version_that_is_not_known_gets_all_lines(dovecot: Path, said: str | None) -> None:
    if said:
        says(dovecot, said)
    assert version_of(("dovecot", "--version")) is None
    told = hint_lines(target(preset="dovecot"))
    assert [*told] == [
        "Let Dovecot from version 2.4 on use:",
        *NEW,
        "Let Dovecot before version 2.4 use:",
        *OLD,
    ]


def test_another_machine_is_not_asked(dovecot: Path) -> None:
    says(dovecot, "2.3.19")
    there = target(preset="dovecot", ssh="a@b", remote_directory=Path("/srv/there"))
    told = hint_lines(there)
    assert len(told) == 6
    assert all("/srv/there/current" in line for line in told if line.startswith(" "))


def test_each_server_that_reads_the_files_has_its_lines() -> None:
    told = hint_lines(target(preset=("nginx", "postfix")))
    assert [line for line in told if line.startswith("Let")] == [
        "Let nginx use:",
        "Let Postfix use:",
    ]


def test_an_account_that_cannot_read_the_key_is_named() -> None:
    assert any("--group postgres" in line for line in hint_lines(target(preset="postgresql")))
    for given in ({"owner": "postgres"}, {"group": "ssl"}, {"ssh": "a@b"}):
        assert not any("--group" in x for x in hint_lines(target(preset="postgresql", **given)))
