"""The wheel, with what its locks say and nothing else, runs both commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lab.peers import clean_environment, require
from tests.packages.conftest import ROOT, build

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]
PROGRAMS = {"agent": "external-agent", "puller": "internal-puller"}


def test_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    build(sys.executable, "-m", "venv", "--without-pip", str(environment))
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "--quiet")
    locks = [word for side in PROGRAMS for word in ("-r", f"requirements/{side}.txt")]
    options = ("--no-compile", "--no-deps")
    build(*pip, "install", *options, "--require-hashes", *locks)
    build(*pip, "install", *options, str(wheel))
    build(*pip, "check")
    for program in PROGRAMS.values():
        for command in ("--help", "status --help"):
            done = subprocess.run(
                [environment / "bin" / program, *command.split()],
                capture_output=True,
                text=True,
                check=False,
                cwd=tmp_path,
                env=clean_environment(),
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert "Usage:" in done.stdout


@pytest.mark.parametrize("side", PROGRAMS)
def test_by_pipx(side: str, wheel: Path, tmp_path: Path) -> None:
    """With the newest libraries that the project allows, not those of the lock."""
    if shutil.which("pipx") is None:
        require("pipx")
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    done = subprocess.run(
        ["pipx", "install", f"{wheel}[{side}]"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**clean_environment(), **places},
    )
    assert done.returncode == 0, done.stderr
    program = tmp_path / "bin" / PROGRAMS[side]
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "Usage:" in said.stdout


def test_it_holds_the_three_packages_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        *("external_agent", "internal_puller", "shared")
    }
    for package in ("external_agent", "internal_puller", "shared"):
        there = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert there <= set(names), "data files are missing"
