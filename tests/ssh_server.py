"""Debian's sshd on a loopback port, for one user with one key: this one, or one made for it.

An account that is made, and what is mounted for it, is in a mount namespace of that sshd alone.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
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
        base: its own files; ``sshd.log`` among them.
        number: process id.
    """

    port: int
    key: Path
    known_hosts: Path
    user: str
    base: Path
    number: int

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"

    @property
    def logins(self) -> int:
        """How often somebody was let in."""
        return (self.base / "sshd.log").read_text().count("Accepted publickey")

    def inside(self, path: str) -> Path:
        """Return where a file is that its own mounts show."""
        return Path(f"/proc/{self.number}/root{path}")


@dataclass(frozen=True)
class Account:
    """A user that exists for one sshd alone; ``/srv`` is an empty disk of its own.

    Attributes:
        home: not made unless it is ``/srv/home``.
        password: as in shadow(5): ``!`` is locked.
        setup: lines of shell, run as root in ``/srv`` before sshd begins.
    """

    shell: str = "/bin/sh"
    home: str = "/srv/home"
    password: str = "*"
    setup: str = ""
    name: str = "relay"
    number: int = 64321

    def write(self, base: Path) -> str:
        """Write its line where the namespace has it in place of the system's; return the lines."""
        who = f"{self.name}:x:{self.number}:{self.number}::{self.home}:{self.shell}\n"
        (base / "passwd").write_text(Path("/etc/passwd").read_text() + who)
        old = Path("/etc/shadow").read_text()
        (base / "shadow").write_text(f"{old}{self.name}:{self.password}:19000:0:99999:7:::\n")
        (base / "shadow").chmod(0o600)
        ids = f"{self.number}:{self.number}"
        return f"""mount -t tmpfs -o mode=0755,size=1m tmpfs /srv
            mount --bind {base}/passwd /etc/passwd
            mount --bind {base}/shadow /etc/shadow
            install -m 644 {base}/authorized_keys /srv/authorized_keys
            mkdir /srv/home /srv/tls && chown {ids} /srv/home /srv/tls
            cd /srv
            {self.setup}
            """


def make_key(path: Path) -> str:
    """Write a key pair; return the public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30
    )
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def ssh_server(
    base: Path,
    port: int = 0,
    options: Mapping[str, object] | None = None,
    account: Account | None = None,
) -> Iterator[SshServer]:
    """Run it; ``base`` is empty, or of an earlier run.

    Args:
        options: of sshd_config(5), beside or in place of the usual ones.
        account: who is let in; ``None``: this user. Needs root.
    """
    assert SSHD is not None
    port = port or free_port()
    if not (base / "host").exists():
        public, own = make_key(base / "host"), make_key(base / "id")
        (base / "authorized_keys").write_text(own)
        (base / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    with contextlib.suppress(OSError):
        Path("/run/sshd").mkdir(exist_ok=True)
    given = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": base / "host",
        "AuthorizedKeysFile": "/srv/authorized_keys" if account else base / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
        **(options or {}),
    }
    (base / "sshd_config").write_text("".join(f"{name} {each}\n" for name, each in given.items()))
    argv = [SSHD, "-D", "-e", "-f", str(base / "sshd_config")]
    if account is not None:
        lines = f"{account.write(base)}\nexec {shlex.join(argv)}"
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", lines]
    with (base / "sshd.log").open("ab") as log:
        process = subprocess.Popen(argv, stderr=log)
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None, (base / "sshd.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        user = account.name if account else getpass.getuser()
        yield SshServer(port, base / "id", base / "known_hosts", user, base, process.pid)
    finally:
        process.terminate()
        process.wait(10)
