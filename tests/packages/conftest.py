"""What is built once: the wheel, the Debian packages, and a Debian root to install into.

Once for all workers: who comes second waits for what the first one makes.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
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
Factory = pytest.TempPathFactory


def build(*command: str) -> None:
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


def once(factory: Factory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory that `make` has filled, in this process or in another worker's."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    there = base / f"shared-{name}"
    with (base / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.exists():
            making = Path(tempfile.mkdtemp(dir=base))
            make(making)
            making.rename(there)
    return there


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: Factory) -> Path:
    def make(folder: Path) -> None:
        options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder))
        build(sys.executable, "-m", "pip", "wheel", *options, str(ROOT))

    (made,) = once(tmp_path_factory, "wheel", make).glob("*.whl")
    return made


@pytest.fixture(scope="session")
def materials(wheel: Path, tmp_path_factory: Factory) -> Path:
    """The Debian packages, and a Debian 12 with Python and systemd as it is on a new machine."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("dpkg-deb", "mmdebstrap", "tar"):
        require(program)

    def make(folder: Path) -> None:
        options = [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
        options += ["--quiet", "--variant=apt", f"--include={INCLUDED}"]
        with subprocess.Popen(
            ["mmdebstrap", *options, "bookworm", str(folder / "root.tar")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        ) as process:
            build("deploy/debian/build", "--wheel", str(wheel), "--output", str(folder))
            said, _ = process.communicate(timeout=BUILD_SECONDS)
            assert process.returncode == 0, said

    return once(tmp_path_factory, "materials", make)


@pytest.fixture(scope="session")
def debian_packages(materials: Path) -> dict[str, Path]:
    """The .deb of each side."""
    return {path.name.split("_")[0].split("-")[-1]: path for path in materials.glob("*.deb")}


@pytest.fixture(scope="session")
def debian_archive(materials: Path) -> Path:
    """The root, packed."""
    return materials / "root.tar"


@pytest.fixture(scope="module")
def debian(debian_archive: Path, tmp_path_factory: Factory) -> Root:
    """A fresh root for one file of tests."""
    base = tmp_path_factory.mktemp("root")
    build("tar", "--extract", "--file", str(debian_archive), "--directory", str(base))
    return Root(base)
