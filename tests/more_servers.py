"""Debian's Postfix, Dovecot, PostgreSQL, Caddy and Tomcat, started by hand on loopback ports.

As :mod:`tests.servers`: each takes the directory of the certificate files and an empty one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from internal_puller.install.probe import look
from internal_puller.settings.probe_point import ProbePoint
from tests.lab.ports import free_port
from tests.servers import RunningServer

START_SECONDS = 40.0
PASSWORD = "changeit"
NAME = "www.intra.example.com"


def postgresql_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


def missing(kind: str) -> str:
    """Return what has to be installed for a server, or nothing."""
    there = {
        "postfix": shutil.which("postfix"),
        "dovecot": shutil.which("dovecot"),
        "postgresql": postgresql_bin(),
        "caddy": shutil.which("caddy"),
        "tomcat": Path("/usr/share/tomcat10/bin/catalina.sh").exists() and shutil.which("java"),
    }
    return "" if there[kind] else kind


def run(*command: str, **options: object) -> None:
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, (command, done.stdout, done.stderr)


def let_pass(base: Path) -> None:
    """Let a server's own account come as far as its directory."""
    for above in (base, *base.parents):
        mode = above.stat().st_mode
        if mode & 0o011 != 0o011 and above.stat().st_uid == 0:
            above.chmod(mode & 0o7777 | 0o011)


@contextlib.contextmanager
def postfix(current: Path, base: Path) -> Iterator[RunningServer]:
    port = free_port()
    config, queue, data = base / "etc", base / "queue", base / "data"
    for place in (config, queue, data):
        place.mkdir()
    let_pass(base)
    shutil.chown(data, "postfix")
    (config / "main.cf").write_text(
        f"""compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
config_directory = {config}
maillog_file = {base}/mail.log
maillog_file_prefixes = {base}
mynetworks_style = host
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {NAME}
smtpd_tls_chain_files = {current}/combined.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
"""
    )
    services = "127.0.0.1:{port} inet n - n - - smtpd\n" + "\n".join(
        f"{name} unix - - n - {most} {program}"
        for name, most, program in (
            ("anvil", 1, "anvil"),
            ("tlsmgr", 1, "tlsmgr"),
            ("rewrite", "-", "trivial-rewrite"),
            ("cleanup", 0, "cleanup"),
            ("proxymap", "-", "proxymap"),
        )
    )
    services += "\npostlog unix-dgram n - n - 1 postlogd\n"
    (config / "master.cf").write_text(services.format(port=port))
    command = ("postfix", "-c", str(config))
    log = base / "mail.log"
    try:
        run(*command, "start")
    except AssertionError as error:  # it says nothing but there
        error.add_note(log.read_text() if log.exists() else "It wrote no log.")
        raise
    try:
        yield RunningServer(
            *("127.0.0.1", port, 0, config / "main.cf", log),
            ("postconf", "-c", str(config), "-n"),
            (*command, "reload"),
        )
    finally:  # not by `postfix stop`, which a broken configuration keeps from working
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((queue / "pid" / "master.pid").read_text()), signal.SIGTERM)


@contextlib.contextmanager
def dovecot(current: Path, base: Path) -> Iterator[RunningServer]:
    port = free_port()
    config = base / "dovecot.conf"
    run_directory = Path(tempfile.mkdtemp(prefix="dovecot-"))  # the names of sockets are short
    run_directory.chmod(0o755)
    config.write_text(
        f"""base_dir = {run_directory}
state_dir = {base}/state
log_path = {base}/dovecot.log
protocols = imap
ssl = required
ssl_cert = <{current}/fullchain.pem
ssl_key = <{current}/privkey.pem
mail_location = maildir:{base}/mail
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={base}/home
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
    )
    process = subprocess.Popen(["dovecot", "-F", "-c", str(config)], start_new_session=True)
    try:
        yield RunningServer(
            *("127.0.0.1", port, process.pid, config, base / "dovecot.log"),
            ("doveconf", "-n", "-c", str(config)),
            ("doveadm", "-c", str(config), "reload"),
        )
    finally:
        end(process)
        shutil.rmtree(run_directory, ignore_errors=True)


@contextlib.contextmanager
def postgresql(current: Path, base: Path) -> Iterator[RunningServer]:
    """As the account ``postgres``, which owns the files of the key."""
    programs, port = postgresql_bin(), free_port()
    assert programs is not None
    account = pwd.getpwnam("postgres")
    data = base / "data"
    data.mkdir()
    shutil.chown(base, "postgres")
    shutil.chown(data, "postgres")
    as_postgres = {"user": account.pw_uid, "group": account.pw_gid, "cwd": str(base)}
    let_pass(base)
    run(str(programs / "initdb"), "-D", str(data), "-A", "trust", "--no-sync", **as_postgres)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(
            f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n"
            f"ssl = on\nssl_cert_file = '{current}/fullchain.pem'\n"
            f"ssl_key_file = '{current}/privkey.pem'\nfsync = off\n"
        )
    log = (base / "log").open("wb")
    process = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(data)],
        stdout=log,
        stderr=log,
        start_new_session=True,
        **as_postgres,  # type: ignore[call-overload]
    )
    try:
        yield RunningServer(
            *("127.0.0.1", port, process.pid, data / "postgresql.conf", base / "log"),
            (),
            ("kill", "-HUP", str(process.pid)),
        )
    finally:
        end(process, signal.SIGINT)
        log.close()


@contextlib.contextmanager
def caddy(current: Path, base: Path) -> Iterator[RunningServer]:
    port, admin = free_port(), free_port()
    config = base / "Caddyfile"
    config.write_text(
        f"""{{
  admin 127.0.0.1:{admin}
  auto_https off
}}
https://{NAME}:{port} {{
  bind 127.0.0.1
  tls {current}/fullchain.pem {current}/privkey.pem
  respond "ok"
}}
"""
    )
    log = (base / "log").open("wb")
    variables = {**os.environ, "XDG_DATA_HOME": str(base), "XDG_CONFIG_HOME": str(base)}
    process = subprocess.Popen(
        ["caddy", "run", "--config", str(config)],
        stdout=log,
        stderr=log,
        env=variables,
        start_new_session=True,
    )
    reload = ("caddy", "reload", "--config", str(config), "--force")
    try:
        yield RunningServer(
            *("127.0.0.1", port, process.pid, config, base / "log"),
            ("caddy", "validate", "--config", str(config)),
            (*reload, "--address", f"127.0.0.1:{admin}"),
        )
    finally:
        end(process)
        log.close()


@contextlib.contextmanager
def tomcat(current: Path, base: Path) -> Iterator[RunningServer]:
    """Its reload is a restart, as the preset's is."""
    port = free_port()
    for name in ("conf", "logs", "temp", "webapps", "work"):
        (base / name).mkdir()
    config = base / "conf" / "server.xml"
    config.write_text(
        f"""<Server port="-1">
  <Service name="Catalina">
    <Connector port="{port}" address="127.0.0.1" SSLEnabled="true" scheme="https" secure="true"
               protocol="org.apache.coyote.http11.Http11NioProtocol">
      <SSLHostConfig>
        <Certificate certificateKeystoreFile="{current}/bundle.p12"
                     certificateKeystorePassword="{PASSWORD}" certificateKeystoreType="PKCS12"/>
      </SSLHostConfig>
    </Connector>
    <Engine name="Catalina" defaultHost="localhost"><Host name="localhost"/></Engine>
  </Service>
</Server>
"""
    )
    restart = base / "restart"
    catalina = "/usr/share/tomcat10/bin/catalina.sh"
    restart.write_text(
        f"""#!/bin/sh
export CATALINA_HOME=/usr/share/tomcat10 CATALINA_BASE={base} CATALINA_PID={base}/pid
export JAVA_OPTS="-Xmx96m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
test ! -e {base}/pid || {catalina} stop 10 -force >>{base}/log 2>&1
test "$1" = stop || exec {catalina} start >>{base}/log 2>&1
"""
    )
    restart.chmod(0o755)
    run(str(restart))
    try:
        yield RunningServer("127.0.0.1", port, 0, config, base / "log", (), (str(restart), "start"))
    finally:
        subprocess.run([str(restart), "stop"], check=False, timeout=60)


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def await_tls(server: RunningServer, protocol: str) -> None:
    """Wait until the server shows a certificate."""
    point = ProbePoint(server.address, server.port, NAME, protocol)
    deadline = time.monotonic() + START_SECONDS
    while (seen := look(point, START_SECONDS)[0]).leaf_sha256 is None:
        assert time.monotonic() < deadline, f"{seen.why}\n{_log(server)}"
        time.sleep(0.05)


def _log(server: RunningServer) -> str:
    return server.log.read_text()[-2000:] if server.log.exists() else "no log"


MORE: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[RunningServer]]] = {
    "postfix": postfix,
    "dovecot": dovecot,
    "postgresql": postgresql,
    "caddy": caddy,
    "tomcat": tomcat,
}
PROTOCOLS = {
    "postfix": "smtp",
    "dovecot": "imap",
    "postgresql": "postgresql",
    "caddy": "tls",
    "tomcat": "tls",
}
