"""What ``discover`` says of servers whose configuration it does not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.discovery import servers
from shared.host import systemctl
from tests.cli.conftest import Run
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Postfix, by its program, and Tomcat, by its unit."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "postfix").write_text("#!/bin/sh\n")
    (here / "postfix").chmod(0o755)
    (here / "tomcat9.service").touch()
    monkeypatch.setattr(servers, "SEARCH_PATH", str(here))
    monkeypatch.setattr(systemctl, "UNIT_DIRECTORIES", (here,))


def test_what_is_here_and_not_read_is_named(agent: FakeAgent, machine: Machine, run: Run) -> None:
    code, out, _ = run("discover")
    assert code == 0
    said = out.partition("their configuration is not read:\n")[2]
    assert said.splitlines() == [
        "  Postfix: internal-puller target add NAME --preset postfix",
        "  Tomcat: internal-puller target add NAME --preset tomcat",
    ]
    machine.enrol(agent)
    file = machine.settings.targets_file
    file.write_text(
        f'[[target]]\ncertificate = "{NAME}"\nnames = ["{NAME}"]\ndirectory = "/srv/a"\n'
        'preset = ["nginx", "postfix"]\n'
    )
    assert "Postfix" not in run("discover")[1]


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("postfix", "The configuration of Postfix is not read: its configuration names no"),
        ("nginxx", "There is no preset 'nginxx'; the nearest is 'nginx'."),
    ],
)
def test_a_server_that_is_not_read_is_refused_with_the_reason(
    machine: Machine, run: Run, server: str, says: str
) -> None:
    code, _, error = run("discover", server)
    assert code == 3
    assert says in error
