"""A Debian with its own systemd as process 1, on a host of the topology's networks."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.peers import clean_environment
from tests.line import Done, wait_until
from tests.packages.cgroups import own_cgroup
from tests.packages.roots import ENVIRONMENT, ended
from tests.topology.namespaces import Namespace

_BOOT_SECONDS = 90.0


@dataclass
class Booted:
    """
    Attributes:
        root: the file system, as we see it.
        host: on whose network it is.
        enter: what puts its processes into a cgroup of their own.
        leader: process 1 of this boot, as we see it.
    """

    root: Path
    host: Namespace
    enter: list[str]
    leader: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Boot it, with what is on its disk, and wait until it is up."""
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [
                    *self.enter,
                    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                    *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
                    *("--console=pipe", f"--directory={self.root}", f"--machine={self.host.name}"),
                    *(
                        f"--network-namespace-path=/run/netns/{self.host.name}",
                        "systemd.unit=basic.target",
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        self.leader = wait_until(self._leader, what="process 1")
        try:
            wait_until(self._is_up, _BOOT_SECONDS, what="a booted system", pause=0.5)
        except AssertionError as error:
            jobs = self.run("systemctl", "list-jobs", "--no-pager", expect=None)
            state = self.run("systemctl", "is-system-running", expect=None)
            said = self._console.read_text(errors="replace")[-3000:]
            told = (state.out, state.err, jobs.out, jobs.err, said, self.journal())
            raise AssertionError("\n".join([str(error), *told])) from error

    @property
    def _console(self) -> Path:
        return self.root.parent / "console"

    def _leader(self) -> int:
        """Process 1, as we see it; 0 while there is none."""
        assert self._process is not None
        assert self._process.poll() is None, self._console.read_text(errors="replace")
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return next((int(word) for word in children if _is_first(word)), 0)

    def _is_up(self) -> bool:
        told = self.run("systemctl", "is-system-running", expect=None).out.strip()
        return told in {"running", "degraded"}

    def switch_off(self) -> None:
        """End it in good order, or else at once."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self.cut_off()

    def cut_off(self) -> None:
        """Take the power away: nothing is ended in good order."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __truediv__(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def run(self, *command: str, stdin: str = "", expect: int | None = 0) -> Done:
        """Run a command to its end, as an administrator who has logged in there."""
        enter = ["nsenter", f"--target={self.leader}", "--all", "--"]
        environment = {**ENVIRONMENT, "HOME": "/root"}
        del environment["SYSTEMD_OFFLINE"]
        done = ended([*enter, *command], environment, stdin)
        if expect is not None and done.code != expect:
            told = f"{command} ended with {done.code}:\n{done.out}{done.err}\n{self.journal()}"
            raise AssertionError(told)
        return done

    def journal(self, *units: str, lines: int = 40) -> str:
        """What the units have said; without one, the whole journal's end."""
        chosen = [f"--unit={unit}" for unit in units]
        command = ("journalctl", "--no-pager", "--quiet", f"--lines={lines}", *chosen)
        return self.run(*command, expect=None).out

    def unit(self, name: str, what: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", name).out.strip()


@contextlib.contextmanager
def booted(base: Path, host: Namespace, *packages: Path) -> Iterator[Booted]:
    """Boot this machine's own Debian on a host's network, with nothing started but the basics.

    What it writes goes into memory, and is gone at the end.
    """
    base.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(_copy_on_write(base))
        for ours in ("etc", "var/lib"):  # if this machine has been an agent or a puller
            shutil.rmtree(root / ours / "split-horizon-relay", ignore_errors=True)
        for package in packages:
            shutil.copy(package, root)
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        (root / "etc/resolv.conf").write_text(host.etc("resolv.conf").read_text())
        (root / "etc/hostname").write_text(f"{host.name}\n")
        machine = Booted(root, host, stack.enter_context(own_cgroup(host.name)))
        stack.callback(machine.switch_off)
        machine.start()
        yield machine


def _is_first(process: str) -> bool:
    """Whether it is process 1 where it is, and not the child that makes that and is gone soon."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    (numbers,) = (line.split() for line in status.splitlines() if line.startswith("NSpid:"))
    return len(numbers) > 2 and numbers[-1] == "1"


@contextlib.contextmanager
def _copy_on_write(base: Path) -> Iterator[Path]:
    """This machine's file system, in which writing changes nothing of it."""
    memory, root = base / "memory", base / "root"
    memory.mkdir()
    root.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", str(memory))
    try:
        for name in ("upper", "work"):
            (memory / name).mkdir(mode=0o755)
        layers = f"lowerdir=/,upperdir={memory}/upper,workdir={memory}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        try:
            yield root
        finally:
            _run("umount", "--lazy", str(root))
    finally:
        _run("umount", "--lazy", str(memory))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
