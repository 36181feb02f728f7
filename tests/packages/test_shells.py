"""fish and zsh complete by our scripts, and man shows our pages without a warning."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.peers import require

pytestmark = pytest.mark.packages
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROGRAMS = ("external-agent", "internal-puller")


def run(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_man(program: str) -> None:
    require("groff")
    page = run("groff", "-ww", "-man", "-Tutf8", "-P-cbou", str(DEPLOY / "man" / f"{program}.1"))
    assert "EXIT STATUS" in page


def fish(line: str) -> set[str]:
    script = "source $argv[1]; complete -C $argv[2]"
    file = DEPLOY / "completion" / "fish" / f"{line.split(maxsplit=1)[0]}.fish"
    told = run("fish", "--no-config", "-c", script, str(file), line)
    return {one.split("\t")[0] for one in told.splitlines()}


def test_fish() -> None:
    require("fish")
    assert fish("external-agent puller ") == {
        *("list", "grant", "withdraw", "suspend", "revoke", "confirm")
    }
    assert fish("external-agent --config puller add --challenge dns") == {
        *("dns-01", "dns-persist-01")
    }
    assert {"--preset", "--reload-command"} <= fish("internal-puller target add x --")


_ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT=; LISTMAX=10000; stty columns 200 rows 500; fpath=($1 \\$fpath)"
zpty -w shell "autoload -U compinit; compinit -u -d $2/dump; print -r ST''ART"
zpty -r -m shell read '*START*2004h*'
zpty -w -n shell "$3"$'\\t\\t'
zpty -w -n shell $'\\C-u'
zpty -w shell 'print -r E""ND'
zpty -r -m shell read '*END*'
print -r -- "$read"
"""


def test_zsh(tmp_path: Path) -> None:
    require("zsh")
    script = tmp_path / "ask.zsh"
    script.write_text(_ZSH)

    def ask(line: str) -> str:
        functions = str(DEPLOY / "completion" / "zsh")
        return run("zsh", "-f", str(script), functions, str(tmp_path), line)

    told = ask("external-agent puller ")
    assert all(word in told for word in ("withdraw", "suspend", "confirm")), told
    told = ask("internal-puller target add www --pre")
    assert "--preset" in told
