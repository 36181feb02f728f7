"""Debian's sshd on a loopback port, for one user with one key."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.ports import free_port

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass
class SshServer:
    """
    Attributes:
        key: the private key that is let in.
        known_hosts: file with the host's key.
    """

    port: int
    key: Path
    known_hosts: Path
    user: str

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"


def make_key(path: Path) -> str:
    """Write a key pair; return the public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30
    )
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def ssh_server(base: Path, port: int = 0) -> Iterator[SshServer]:
    """Run it; ``base`` is empty, or of an earlier run."""
    assert SSHD is not None
    port = port or free_port()
    if not (base / "host").exists():
        public, own = make_key(base / "host"), make_key(base / "id")
        (base / "authorized_keys").write_text(own)
        (base / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    with contextlib.suppress(OSError):
        Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": base / "host",
        "AuthorizedKeysFile": base / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    lines = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with (base / "sshd.log").open("ab") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *lines], stderr=log)
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None, (base / "sshd.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield SshServer(port, base / "id", base / "known_hosts", getpass.getuser())
    finally:
        process.terminate()
        process.wait(10)
