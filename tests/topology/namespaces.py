"""Network namespaces for one test: hosts, links, views of DNS, and nothing left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PREFIX = "shr-"
NETNS_FILES = Path("/etc/netns")
_CLONE_NEWNET = 0x40000000
_ENDING_SECONDS = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespace:
    """One host. Its files under `/etc` that were given are seen by programs run by `argv`."""

    name: str

    def argv(self, *command: str) -> list[str]:
        """Return the command that runs `command` on this host."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run to the end and return what it printed; raise with its words when it fails."""
        return _run(self.argv(*command), stdin)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread on this host's network: sockets and threads that begin here stay here.

        Files under `/etc` stay this machine's: to resolve a name as the host does, use `argv`.
        """
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with Path(f"/run/netns/{self.name}").open("rb") as there:
                _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def etc(self, name: str) -> Path:
        """Return where this host's `/etc/NAME` is written; the real one must exist."""
        path = NETNS_FILES / self.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Wire:
    """A cable between two hosts: (host, interface, address with prefix or "")."""

    one: tuple[Namespace, str, str]
    other: tuple[Namespace, str, str]


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[tuple[Namespace, ...]]:
    """Make namespaces with loopback up; at the end kill what runs in them and remove them."""
    remove_stale()
    made = tuple(Namespace(f"{PREFIX}{os.getpid()}-{name}") for name in names)
    try:
        _batch(f"netns add {host.name}" for host in made)
        for host in made:
            _batch(["link set lo up"], host)
        yield made
    finally:
        for host in made:
            remove(host.name)


def connect(*wires: Wire) -> None:
    """Lay cables, give addresses and bring them up."""
    for wire in wires:
        (one, here, _), (other, there, _) = wire.one, wire.other
        _batch([f"link add {here} netns {one.name} type veth peer name {there} netns {other.name}"])
        for host, interface, address in (wire.one, wire.other):
            lines = [f"address add {address} dev {interface}"] if address else []
            _batch([*lines, f"link set {interface} up"], host)


def configure(host: Namespace, *lines: str) -> None:
    """Run lines of `ip -batch` on a host: routes, bridges."""
    _batch(lines, host)


def forward(host: Namespace) -> None:
    """Let a host pass on packets that are not its own."""
    with host.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def remove_stale() -> None:
    """Remove what a test run left that was killed: hosts whose maker is gone."""
    for name in _existing():
        maker = re.match(rf"{PREFIX}(\d+)-", name)
        if maker and not Path(f"/proc/{maker[1]}").exists():
            remove(name)


def remove(name: str) -> None:
    """End the programs of a namespace and remove it and its files; missing is fine."""
    if Path(f"/run/netns/{name}").exists():
        _end_programs(name)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    shutil.rmtree(NETNS_FILES / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        NETNS_FILES.rmdir()  # ours too when it is empty


def programs(name: str) -> list[int]:
    """Return the ids of the processes in a namespace, without this one."""
    done = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in done.stdout.split() if int(pid) != os.getpid()]


def _end_programs(name: str) -> None:
    deadline = time.monotonic() + _ENDING_SECONDS
    while (running := programs(name)) and time.monotonic() < deadline:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _existing() -> Iterator[str]:
    names = {path.name for base in ("/run/netns", NETNS_FILES) for path in _entries(Path(base))}
    return (name for name in sorted(names) if name.startswith(PREFIX))


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _batch(lines: Iterable[str], host: Namespace | None = None) -> None:
    where = ["-n", host.name] if host else []
    _run(["ip", *where, "-batch", "-"], "\n".join(lines) + "\n")


def _run(argv: Sequence[str], stdin: str | None) -> str:
    done = subprocess.run(argv, input=stdin or "", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
