"""Completion and man pages are those of the commands, and bash completes by them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.command_tree import programs
from tools.write_manuals import ROOT, wanted

BASH = ROOT / "deploy" / "completion" / "bash"


@pytest.mark.parametrize("path", wanted(), ids=lambda path: str(path.relative_to(ROOT)))
def test_they_are_up_to_date(path: Path) -> None:
    assert path.exists(), "run tools/manuals"
    assert path.read_text("utf-8") == wanted()[path], "run tools/manuals"


def test_every_command_has_its_section() -> None:
    for program, root in programs().items():
        page = wanted()[ROOT / "deploy" / "man" / f"{program}.1"]
        for one in root.walk():
            if one.path and not one.commands:
                assert f".SS {' '.join(one.path)}".replace("-", "\\-") in page


def completed(program: str, *words: str) -> set[str]:
    """What bash offers for the last word."""
    script = (
        f'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'_{program.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-uc", script, "bash", str(BASH / program), program, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("program", programs())
def test_bash_offers_every_command_and_option(program: str) -> None:
    for one in programs()[program].walk():
        if one.commands:
            assert completed(program, *one.path, "") == {below.name for below in one.commands}
        flags = {flag for option in one.options for flag in option.flags}
        assert completed(program, *one.path, "--") == flags | {"--help"}


def test_bash_knows_what_follows_an_option(tmp_path: Path) -> None:
    agent = "external-agent"
    assert completed(agent, "add", "--challenge", "dns") == {"dns-01", "dns-persist-01"}
    assert completed(agent, "add", "--id", "") == set()
    # A value that looks like a command is none.
    assert completed(agent, "--config", "puller", "pul") == {"puller"}
    (tmp_path / "monday.tar").touch()
    assert completed(agent, "restore", f"{tmp_path}/mon") == {f"{tmp_path}/monday.tar"}
    assert completed(agent, "--config", f"{tmp_path}/mon") == {f"{tmp_path}/monday.tar"}
    assert completed("internal-puller", "target", "add", "x", "--key-algorithm", "ec") == {
        "ec-p256",
        "ec-p384",
    }
