"""Debian's PostgreSQL on a Unix socket, with a database for each test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.more_servers import postgresql_bin


@dataclass
class PostgresqlServer:
    """
    Attributes:
        socket: directory of the Unix socket.
    """

    base: Path
    socket: Path
    user: str
    process: subprocess.Popen[bytes] | None = None
    made: int = 0

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.socket}"

    def start(self) -> None:
        programs = postgresql_bin()
        assert programs is not None
        self.process = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(self.base / "data")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._account,  # type: ignore[call-overload]
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def create(self, template: str = "template0", options: str = "") -> str:
        """Make a database; return its name."""
        self.made += 1
        name = f"relay_{os.getpid()}_{self.made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        return name

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        programs = postgresql_bin()
        assert programs is not None
        done = subprocess.run(
            [
                *(str(programs / "psql"), "-X", "-At", "-h", str(self.socket), "-U", self.user),
                *("-d", database, "-c", statement),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _answers(self) -> bool:
        programs = postgresql_bin()
        done = subprocess.run(
            [str(programs / "pg_isready"), "-q", "-h", str(self.socket)],  # type: ignore[operator]
            check=False,
            timeout=20,
        )
        return done.returncode == 0

    @property
    def _account(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {"cwd": str(self.base)}
        account = pwd.getpwnam("postgres")
        return {"user": account.pw_uid, "group": account.pw_gid, "cwd": str(self.base)}

    def initialise(self) -> None:
        programs = postgresql_bin()
        assert programs is not None
        subprocess.run(
            [
                *(str(programs / "initdb"), "-D", str(self.base / "data"), "-A", "trust"),
                *("-U", self.user, "--locale=C.UTF-8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
            **self._account,  # type: ignore[call-overload]
        )
        with (self.base / "data" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.socket}'\n"
                "fsync = off\nfull_page_writes = off\nmax_connections = 60\n"
            )


@contextlib.contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Run one; nothing of it is left."""
    base = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(base, "postgres")
    base.chmod(0o755)
    server = PostgresqlServer(base, base, "relay")
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)
