"""What is built once: the wheel, the Debian packages, and a Debian root to install into."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.lab.peers import clean_environment, require
from tests.packages.roots import Root

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 300


def build(*command: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder))
    build(sys.executable, "-m", "pip", "wheel", *options, str(ROOT))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def debian_packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The .deb of each side."""
    require("dpkg-deb")
    folder = tmp_path_factory.mktemp("debian")
    build("deploy/debian/build", "--wheel", str(wheel), "--output", str(folder))
    return {path.name.split("_")[0].split("-")[-1]: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def debian_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian 12 with Python and systemd, as it is on a new machine, packed."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    require("mmdebstrap")
    archive = tmp_path_factory.mktemp("debian-root") / "root.tar"
    include = "--include=python3,systemd,ca-certificates"
    build("mmdebstrap", "--quiet", "--variant=apt", include, "bookworm", str(archive))
    return archive


@pytest.fixture(scope="module")
def debian(debian_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A fresh root for one file of tests."""
    base = tmp_path_factory.mktemp("root")
    with tarfile.open(debian_archive) as archive:
        archive.extractall(base, filter="fully_trusted")
    return Root(base)
