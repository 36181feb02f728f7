"""Podman with everything of its own: images, networks, ports, processes; ends with its machine."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.peers import clean_environment

_LIMIT_SECONDS = 300
# What a reboot empties is in memory; catatonit reaps, as the first process of a machine does.
_BOOT = """
for folder in "$1/run" "$1/tmp" /run/runc; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
echo up
exec catatonit -P
"""


@dataclass
class Podman:
    """
    Attributes:
        base: where all of it is.
        machine: of whose process tree, network and mounts the containers are, while it runs.
    """

    base: Path
    machine: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        """Write its settings."""
        for name in ("run", "tmp"):
            (self.base / name).mkdir()
        Path("/run/runc").mkdir(mode=0o700, exist_ok=True)
        limits = ", ".join(
            f'"{name}={min(hard, 4096) if hard > 0 else 4096}"'
            for name, (_, hard) in (
                ("nofile", resource.getrlimit(resource.RLIMIT_NOFILE)),
                ("nproc", resource.getrlimit(resource.RLIMIT_NPROC)),
            )
        )
        (self.base / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = [{limits}]\n"  # it would ask for more than is granted
            f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\n'
            f'runtime = "runc"\ntmp_dir = "{self.base}/tmp"\n'
            f'[network]\nnetwork_config_dir = "{self.base}/networks"\n'
        )
        self._store("overlay")
        if self._run("podman", "images").returncode:
            self._store("vfs")  # some kernels put no overlay upon an overlay

    def _store(self, driver: str) -> None:
        (self.base / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.base}/store"\n'
            f'runroot = "{self.base}/run"\n'
        )

    def boot(self) -> None:
        """Start the machine; what has a restart policy is started as by podman-restart.service."""
        apart = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        self.machine = subprocess.Popen(
            ["unshare", *apart, "sh", "-euc", _BOOT, "sh", str(self.base)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert self.machine.stdout is not None
        assert self.machine.stdout.readline() == "up\n"
        self("podman", "start", "--all", "--filter", "restart-policy=always")

    def cut_the_power(self) -> None:
        """End every process at once."""
        if self.machine is not None:
            os.kill(self._first(), signal.SIGKILL)
            self.machine.communicate(timeout=30)
            self.machine = None

    def remove(self) -> None:
        self.cut_the_power()
        shutil.rmtree(self.base / "store", ignore_errors=True)

    def __call__(self, *command: str, expect: int = 0, folder: Path | None = None) -> str:
        """Run a command on the machine, or beside it when it is off; return all that it said."""
        done = self._run(*command, folder=folder)
        assert done.returncode == expect, f"{command}:\n{done.stdout}"
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        return self._run(*command).returncode == 0

    def _run(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        enter: tuple[str, ...] = ()
        if self.machine is not None:
            enter = ("nsenter", "--target", str(self._first()), "--net", "--mount", "--pid")
            enter += (f"--wdns={folder or self.base}",)
        return subprocess.run(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
            cwd=folder or self.base,
            env=self.environment,
        )

    def _first(self) -> int:
        assert self.machine is not None
        pid = self.machine.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(
            CONTAINERS_CONF=str(self.base / "containers.conf"),
            CONTAINERS_STORAGE_CONF=str(self.base / "storage.conf"),
            DISABLE_HC_SYSTEMD="true",  # no timers: whoever wants to know the health asks
        )
