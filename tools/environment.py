"""Makes the environments of the tests and of the demo: the locked packages, once for each lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"


@dataclass(frozen=True)
class Environment:
    """
    Attributes:
        directory: where it is made.
        locks: names of files in requirements/.
        with_project: the project itself is installed too, editable.
    """

    directory: Path
    locks: tuple[str, ...]
    with_project: bool


TESTS = Environment(ROOT / ".venv-tests", ("dev.txt",), with_project=True)
ACME2CERTIFIER = Environment(
    ROOT / ".venv-acme2certifier", ("acme2certifier.txt",), with_project=False
)
ANSIBLE = Environment(ROOT / ".venv-ansible", ("ansible.txt",), with_project=False)
DEMO = Environment(ROOT / ".venv-demo", ("agent.txt", "puller.txt"), with_project=False)

# `requests` and `httpx` let these override the roots that a test names for its own CA.
FOREIGN_ROOTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class EnvironmentFailed(Exception):
    """The environment could not be made; the text says which step and why."""


def ensure(wanted: Environment = TESTS) -> Path:
    """Return the Python of an environment that holds exactly what the locks say.

    Raises:
        EnvironmentFailed: a step failed; the next run starts again from nothing.
    """
    if wanted.directory.is_symlink():  # making it anew would empty what it leads to
        raise EnvironmentFailed(f"{wanted.directory} is a symbolic link; remove it.")
    python = wanted.directory / "bin" / "python"
    with _one_at_a_time():
        stamp = wanted.directory / "made-from"
        if stamp.exists() and stamp.read_text() == _key(wanted):
            return python
        print(f"making {wanted.directory.name} from {', '.join(wanted.locks)} ...", flush=True)
        venv.create(wanted.directory, with_pip=True, clear=True, symlinks=True)
        pip = [str(python), "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
        files = [part for lock in wanted.locks for part in ("-r", str(LOCKS / lock))]
        _step("the locked packages", [*pip, "--require-hashes", "--no-deps", *files])
        if wanted.with_project:
            offline = ["--no-index", "--no-deps", "--no-build-isolation"]
            _step("the project", [*pip, *offline, "--editable", str(ROOT)])
        stamp.write_text(_key(wanted))
    return python


def variables(wanted: Environment = TESTS) -> dict[str, str]:
    """The variables that every part runs with: the environment's programs first, no foreign CAs."""
    dropped = (*FOREIGN_ROOTS, "PYTHONDONTWRITEBYTECODE")  # hundreds of Pythons are started
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept["PATH"] = f"{wanted.directory / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["VIRTUAL_ENV"] = str(wanted.directory)
    return kept


def _key(wanted: Environment) -> str:
    """What the environment depends on: the locks, the project's metadata, Python, the place."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = json.dumps([settings["build-system"], settings["project"]], sort_keys=True)
    locks = [(LOCKS / lock).read_text() for lock in wanted.locks]
    parts = (*locks, project, sys.version, sys.base_prefix, str(wanted.directory))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _step(what: str, command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise EnvironmentFailed(f"{said}\npip could not install {what} (its words are above).")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two runs in one checkout must not build over each other."""
    handle = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
