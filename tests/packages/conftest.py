"""What is built once: the wheel, the Debian packages, and a Debian root to install into."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.peers import clean_environment, require
from tests.packages.roots import Root

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 300
INCLUDED = "python3,systemd,ca-certificates,curl,nftables,python3-apt"
DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
)


@dataclass(frozen=True)
class Beginning:
    """A root that is being made, and where it will be."""

    process: subprocess.Popen[str]
    archive: Path


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
def debian_packages(
    beginning: Beginning, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The .deb of each side."""
    del beginning  # it goes on meanwhile
    require("dpkg-deb")
    folder = tmp_path_factory.mktemp("debian")
    build("deploy/debian/build", "--wheel", str(wheel), "--output", str(folder))
    return {path.name.split("_")[0].split("-")[-1]: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beginning]:
    """Is being made while others build."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    require("mmdebstrap")
    archive = tmp_path_factory.mktemp("debian-root") / "root.tar"
    options = ["--quiet", "--variant=apt", f"--include={INCLUDED}"]
    options += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    with subprocess.Popen(
        ["mmdebstrap", *options, "bookworm", str(archive)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    ) as process:
        yield Beginning(process, archive)
        if process.poll() is None:
            process.terminate()


@pytest.fixture(scope="session")
def debian_archive(beginning: Beginning) -> Path:
    """A Debian 12 with Python and systemd, as it is on a new machine, packed."""
    said, _ = beginning.process.communicate(timeout=BUILD_SECONDS)
    assert beginning.process.returncode == 0, said
    return beginning.archive


@pytest.fixture(scope="module")
def debian(debian_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A fresh root for one file of tests."""
    base = tmp_path_factory.mktemp("root")
    with tarfile.open(debian_archive) as archive:
        archive.extractall(base, filter="fully_trusted")
    return Root(base)
