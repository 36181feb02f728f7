"""Debian's nginx, Apache and HAProxy, started by hand on a loopback port with a certificate.

Each context manager takes the directory of the certificate files (a target's ``current``, which
must hold ``fullchain.pem`` and ``privkey.pem``, for HAProxy ``combined.pem``) and an empty
directory for configuration and logs, and ends the server by its own process id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.ports import free_port

NAMES = ("www.intra.example.com",)
START_SECONDS = 15.0
STOP_SECONDS = 10.0
_UNSET = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers TLS, and the commands that an operator would use on it."""

    address: str
    port: int
    pid: int
    config: Path
    log: Path
    test_command: tuple[str, ...]
    reload_command: tuple[str, ...]


ServerFactory = Callable[..., AbstractContextManager[RunningServer]]


@dataclass(frozen=True)
class _Recipe:
    config: Path
    log: Path
    start: tuple[str, ...]
    test: tuple[str, ...]
    reload: Callable[[int], tuple[str, ...]]
    stop: signal.Signals


def nginx_server(
    current: Path, base: Path, names: Sequence[str] = NAMES
) -> AbstractContextManager[RunningServer]:
    """Serve ``ok`` over HTTPS by nginx with two workers; reloaded by ``nginx -s reload``."""
    return _running(lambda port: _nginx(current, base, names, port))


def apache_server(
    current: Path, base: Path, names: Sequence[str] = NAMES
) -> AbstractContextManager[RunningServer]:
    """Serve a directory over HTTPS by Apache (event); reloaded by ``apache2 -k graceful``."""
    return _running(lambda port: _apache(current, base, names, port))


def haproxy_server(
    current: Path, base: Path, names: Sequence[str] = NAMES
) -> AbstractContextManager[RunningServer]:
    """Answer ``ok`` over HTTPS by HAProxy in master-worker mode; reloaded by USR2."""
    del names  # HAProxy takes them from the certificate
    return _running(lambda port: _haproxy(current, base, port))


SERVERS: dict[str, ServerFactory] = {
    "nginx": nginx_server,
    "apache": apache_server,
    "haproxy": haproxy_server,
}


def _nginx(current: Path, base: Path, names: Sequence[str], port: int) -> _Recipe:
    config, log = base / "nginx.conf", base / "error.log"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n  ".join(f"{kind}_temp_path {base}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"""{user}
worker_processes 2;
pid {base}/nginx.pid;
error_log {log};
events {{ worker_connections 256; }}
http {{
  access_log off;
  {temporary}
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {" ".join(names)};
    ssl_certificate {current}/fullchain.pem;
    ssl_certificate_key {current}/privkey.pem;
    location / {{ return 200 "ok\\n"; }}
  }}
}}
"""
    )
    command = ("nginx", "-p", str(base), "-e", str(log), "-c", str(config))
    return _Recipe(
        config,
        log,
        (*command, "-g", "daemon off;"),
        (*command, "-t"),
        lambda _: (*command, "-s", "reload"),
        signal.SIGTERM,
    )


def _apache(current: Path, base: Path, names: Sequence[str], port: int) -> _Recipe:
    config, log = base / "apache.conf", base / "error.log"
    modules = Path("/usr/lib/apache2/modules")
    loads = "\n".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so"
        for name in ("mpm_event", "authz_core", "socache_shmcb", "ssl")
    )
    first, *others = names
    aliases = f"  ServerAlias {' '.join(others)}" if others else ""
    (base / "root").mkdir(exist_ok=True)
    (base / "root/index.html").write_text("ok\n")
    config.write_text(
        f"""ServerRoot {base}
ServerName {first}
PidFile {base}/apache.pid
Mutex file:{base}
ErrorLog {log}
DocumentRoot {base}/root
{loads}
Listen 127.0.0.1:{port} https
StartServers 2
SSLSessionCache shmcb:{base}/sessions(512000)
<VirtualHost 127.0.0.1:{port}>
  ServerName {first}
{aliases}
  SSLEngine on
  SSLCertificateFile {current}/fullchain.pem
  SSLCertificateKeyFile {current}/privkey.pem
</VirtualHost>
"""
    )
    command = ("apache2", "-f", str(config))
    return _Recipe(
        config,
        log,
        (*command, "-D", "FOREGROUND"),
        (*command, "-t"),
        lambda _: (*command, "-k", "graceful"),
        signal.SIGTERM,
    )


def _haproxy(current: Path, base: Path, port: int) -> _Recipe:
    config, log = base / "haproxy.cfg", base / "haproxy.log"
    config.write_text(
        f"""global
  maxconn 256
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 5s
frontend intranet
  bind 127.0.0.1:{port} ssl crt {current}/combined.pem
  http-request return status 200 content-type text/plain string "ok"
"""
    )
    return _Recipe(
        config,
        log,
        ("haproxy", "-W", "-f", str(config)),
        ("haproxy", "-c", "-f", str(config)),
        lambda pid: ("kill", "-USR2", str(pid)),
        signal.SIGTERM,
    )


@contextlib.contextmanager
def _running(recipe_for: Callable[[int], _Recipe]) -> Iterator[RunningServer]:
    port = free_port()
    recipe = recipe_for(port)
    environment = {key: value for key, value in os.environ.items() if key not in _UNSET}
    with recipe.log.open("ab") as log:
        process = subprocess.Popen(
            recipe.start,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        _await_listening(port, process, recipe.log)
        yield RunningServer(
            "127.0.0.1",
            port,
            process.pid,
            recipe.config,
            recipe.log,
            recipe.test,
            recipe.reload(process.pid),
        )
    finally:
        _stop(process, recipe.stop)


def _await_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for TLS, not for a port alone: Apache opens its ports, then reads everything again."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended at its start: {log.read_text()}")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1) as connection,
            anybody.wrap_socket(connection, server_hostname=NAMES[0]),
        ):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text()}")


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """End the server's whole session, which this module started."""
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
