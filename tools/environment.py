"""Makes the environment of the tests: the locked packages and the project itself, once a lock."""

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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.txt"
ENVIRONMENT = ROOT / ".venv-tests"

# `requests` and `httpx` let these override the roots that a test names for its own CA.
FOREIGN_ROOTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class EnvironmentFailed(Exception):
    """The environment could not be made; the text says which step and why."""


def ensure() -> Path:
    """Return the Python of an environment that holds exactly what the lock says.

    Raises:
        EnvironmentFailed: a step failed; the next run starts again from nothing.
    """
    python = ENVIRONMENT / "bin" / "python"
    with _one_at_a_time():
        stamp = ENVIRONMENT / "made-from"
        if stamp.exists() and stamp.read_text() == _key():
            return python
        print(f"making {ENVIRONMENT.name} from requirements/{LOCK.name} ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True, symlinks=True)
        pip = [str(python), "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
        _step("the locked packages", [*pip, "--require-hashes", "--no-deps", "-r", str(LOCK)])
        _step(
            "the project",
            [*pip, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
        )
        stamp.write_text(_key())
    return python


def variables() -> dict[str, str]:
    """The variables that every part runs with: the environment's programs first, no foreign CAs."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN_ROOTS}
    kept["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["VIRTUAL_ENV"] = str(ENVIRONMENT)
    return kept


def _key() -> str:
    """What the environment depends on: the lock, the project's own metadata, Python, the place."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = json.dumps([settings["build-system"], settings["project"]], sort_keys=True)
    parts = (LOCK.read_text(), project, sys.version, sys.base_prefix, str(ENVIRONMENT))
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
