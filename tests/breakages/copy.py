"""A copy of the checkout, with an environment of its own in which every process imports the copy.

The environment of the tests holds an editable install, which leads to the checkout: a child that
found its way there would show the product whole, and the breakage would seem to survive. So the
copy gets a Python of its own. It reads the locked packages where they are, and the project from
the copy; and each process of it looks at that before it does anything else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.breakages.model import Breakage, Unusable
from tests.breakages.page import ROOT
from tools import environment

WRONG_PROJECT = 97
_GUARD = """\
import importlib.util, os, sys
_found = importlib.util.find_spec("external_agent")
if _found is None or not str(_found.origin).startswith({copy!r} + os.sep):
    sys.stderr.write("this process would not import the project from {copy}\\n")
    sys.stderr.flush()
    os._exit({code})
"""


class Copy:
    """The tracked and the new files of the checkout, in a directory that others may read.

    Args:
        directory: an empty one; what is in it is the caller's to remove.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "c"
        self.scratch = directory / "t"
        self._environment = dataclasses.replace(
            environment.TESTS, directory=self.root / environment.TESTS.directory.name
        )
        self._edits = 0
        self._running: subprocess.Popen[bytes] | None = None
        directory.chmod(0o755)
        self._copy_files()
        self._make_environment()

    @property
    def python(self) -> Path:
        return self._environment.directory / "bin" / "python"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of everything that runs in the copy."""
        kept = environment.variables(self._environment)
        return {name: value for name, value in kept.items() if name != "PYTHONPATH"}

    def run(
        self, *arguments: str, seconds: float, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the copy's Python; nothing of it is left behind.

        Args:
            extra: variables besides the usual ones.

        Raises:
            Unusable: it was not done in time.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            process = self._running = subprocess.Popen(
                [str(self.python), *arguments],
                cwd=self.root,
                env={**self.variables, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise Unusable(f"it was not done after {seconds:g} s") from None
            finally:
                _end(process)
            output.seek(0)
            return subprocess.CompletedProcess(process.args, code, output.read())

    def end(self) -> None:
        """End what runs in it, if anything does."""
        if self._running is not None:
            _end(self._running)

    @contextlib.contextmanager
    def broken(self, breakage: Breakage) -> Iterator[None]:
        """Have a breakage in the copy for a while.

        Raises:
            Unusable: it does not fit, or the broken module cannot even be imported.
        """
        path = self.root / breakage.file
        text = breakage.apply(self.root)
        whole, when = path.read_bytes(), path.stat().st_mtime_ns
        self._edits += 1  # a time of its own: what was compiled before does not count
        _write(path, text.encode(), when + self._edits * 10**9)
        try:
            if breakage.file.endswith(".py"):
                self._import(breakage.file.removesuffix(".py").replace("/", "."))
            yield
        finally:
            _write(path, whole, when)

    def _import(self, module: str) -> None:
        done = self.run("-c", f"import {module}", seconds=60)
        if done.returncode:
            raise Unusable(f"{module} cannot be imported: {done.stdout.splitlines()[-1]}")

    def _copy_files(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():  # one that was deleted is listed still
                there = self.root / name
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, there, follow_symlinks=False)

    def _make_environment(self) -> None:
        own, given = self._environment.directory, Path(sysconfig.get_path("scripts"))
        venv.create(own, with_pip=False, symlinks=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(own)}))
        packages.joinpath("copy.pth").write_text(
            f"{self.root}\n{sysconfig.get_path('purelib')}\nimport only_the_copy\n"
        )
        packages.joinpath("only_the_copy.py").write_text(
            _GUARD.format(copy=str(self.root), code=WRONG_PROJECT)
        )
        for script in given.iterdir():
            there = own / "bin" / script.name
            if not there.exists() and script.is_file():
                content = script.read_bytes()
                there.write_bytes(content.replace(bytes(given), bytes(own / "bin"), 1))
                there.chmod(0o755)


def _write(path: Path, content: bytes, when: int) -> None:
    """Write a file with a time of change, in nanoseconds."""
    path.write_bytes(content)
    os.utime(path, ns=(when, when))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
