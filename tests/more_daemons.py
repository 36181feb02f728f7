"""Debian's OpenLDAP, MariaDB, Exim, vsftpd, Mosquitto, Prosody and Cockpit, started by hand.

As :mod:`tests.more_servers`. What takes a certificate up only when it starts is restarted by its
"reload", as its preset's unit is. Exim, which no machine has beside Postfix, is unpacked.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.ports import free_port
from tests.more_servers import NAME, end, let_pass, run
from tests.servers import RunningServer

EXIM = ("exim4-daemon-light", "exim4-base")
PROGRAMS = {
    "openldap": "/usr/sbin/slapd",
    "mariadb": "/usr/sbin/mariadbd",
    "vsftpd": "/usr/sbin/vsftpd",
    "mosquitto": "/usr/sbin/mosquitto",
    "prosody": "/usr/bin/prosody",
    "cockpit": "/usr/lib/cockpit/cockpit-tls",
}


@functools.cache
def exim_root() -> Path | None:
    """Return a root with Debian's Exim, unpacked; ``None`` if it cannot be had."""
    kept = tempfile.TemporaryDirectory(prefix="exim-root-")
    root = Path(kept.name)
    _KEPT.append(kept)
    root.chmod(0o755)
    got = subprocess.run(
        ["apt-get", "-qq", "download", *EXIM], cwd=root, check=False, capture_output=True
    )
    if got.returncode:
        return None
    for package in root.glob("*.deb"):
        run("dpkg", "-x", str(package), str(root))
    return root


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Until the process ends."""


def missing(kind: str) -> str:
    """Return what has to be installed for a server, or nothing."""
    there = exim_root() is not None if kind == "exim" else Path(PROGRAMS[kind]).exists()
    return "" if there else kind


@contextlib.contextmanager
def _foreground(
    command: tuple[str, ...], config: Path, port: int, reload: Callable[[int], tuple[str, ...]]
) -> Iterator[RunningServer]:
    log = config.parent / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield RunningServer(*("127.0.0.1", port, process.pid, config, log), (), reload(process.pid))
    finally:
        end(process)


@contextlib.contextmanager
def _restarted(
    command: str, config: Path, port: int, test: tuple[str, ...] = ()
) -> Iterator[RunningServer]:
    """One that takes nothing up while it runs: its reload ends it and starts it anew."""
    base = config.parent
    script = base / "restart"
    script.write_text(
        f"""#!/bin/sh
if pid=$(cat {base}/started 2>/dev/null); then
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    rm {base}/started
fi
test "$1" = stop && exit
setsid {command} >>{base}/log 2>&1 &
echo $! >{base}/started
"""
    )
    script.chmod(0o755)
    run(str(script))
    try:
        yield RunningServer(
            *("127.0.0.1", port, 0, config, base / "log"), test, (str(script), "again")
        )
    finally:
        run(str(script), "stop")


def _hangup(pid: int) -> tuple[str, ...]:
    return ("kill", "-HUP", str(pid))


@contextlib.contextmanager
def openldap(current: Path, base: Path) -> Iterator[RunningServer]:
    port, config, made = free_port(), base / "config.ldif", base / "slapd.d"
    made.mkdir()
    config.write_text(
        f"""dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: {base}/pid
olcTLSCertificateFile: {current}/fullchain.pem
olcTLSCertificateKeyFile: {current}/privkey.pem

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif
"""
    )
    run("slapadd", "-n", "0", "-F", str(made), "-l", str(config))
    command = f"slapd -d 0 -F {made} -h ldaps://127.0.0.1:{port}"
    with _restarted(command, config, port, ("slaptest", "-u", "-F", str(made))) as server:
        yield server


@contextlib.contextmanager
def vsftpd(current: Path, base: Path) -> Iterator[RunningServer]:
    port, config = free_port(), base / "vsftpd.conf"
    (base / "empty").mkdir()
    config.write_text(
        f"""listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
ssl_enable=YES
allow_anon_ssl=YES
implicit_ssl=YES
rsa_cert_file={current}/fullchain.pem
rsa_private_key_file={current}/privkey.pem
secure_chroot_dir={base}/empty
"""
    )
    with _restarted(f"vsftpd {config}", config, port) as server:
        yield server


@contextlib.contextmanager
def cockpit(current: Path, base: Path) -> Iterator[RunningServer]:
    """What its unit runs, in a /run of its own, where its paths are."""
    port, config = free_port(), base / "cockpit"
    certificates = config / "ws-certs.d"
    certificates.mkdir(parents=True)
    (certificates / "50-relay.cert").symlink_to(current / "fullchain.pem")
    (certificates / "50-relay.key").symlink_to(current / "privkey.pem")
    start = base / "start"
    start.write_text(
        f"""#!/bin/sh
mount -t tmpfs none /run
mkdir -p /run/cockpit/wsinstance /run/cockpit/tls
export XDG_CONFIG_DIRS={base} RUNTIME_DIRECTORY=/run/cockpit/tls
/usr/lib/cockpit/cockpit-certificate-ensure --for-cockpit-tls || exit 1
exec /usr/lib/cockpit/cockpit-tls --port={port} --idle-timeout=0
"""
    )
    start.chmod(0o755)
    with _restarted(f"unshare --mount {start}", config, port) as server:
        yield server


@contextlib.contextmanager
def mosquitto(current: Path, base: Path) -> Iterator[RunningServer]:
    port, config = free_port(), base / "mosquitto.conf"
    config.write_text(
        f"""listener {port} 127.0.0.1
user root
certfile {current}/fullchain.pem
keyfile {current}/privkey.pem
"""
    )
    with _foreground(("mosquitto", "-c", str(config)), config, port, _hangup) as server:
        yield server


@contextlib.contextmanager
def prosody(current: Path, base: Path) -> Iterator[RunningServer]:
    port, config = free_port(), base / "prosody.cfg.lua"
    let_pass(base)
    (base / "data").mkdir()
    shutil.chown(base / "data", "prosody")
    config.write_text(
        f"""pidfile = "{base}/data/pid"
data_path = "{base}/data"
modules_enabled = {{ "tls", "saslauth" }}
modules_disabled = {{ "s2s" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
log = "*console"
VirtualHost "{NAME}"
  ssl = {{ certificate = "{current}/fullchain.pem"; key = "{current}/privkey.pem"; }}
"""
    )
    account = ("setpriv", "--reuid=prosody", "--regid=prosody", "--clear-groups")
    command = (*account, "prosody", "--config", str(config), "-F")
    with _foreground(command, config, port, _hangup) as server:
        yield server


@contextlib.contextmanager
def mariadb(current: Path, base: Path) -> Iterator[RunningServer]:
    port, config, data = free_port(), base / "my.cnf", base / "data"
    install = ("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root")
    run(*install, "--auth-root-authentication-method=socket", "--skip-test-db")
    sockets = Path(tempfile.mkdtemp(prefix="mariadb-"))  # the names of sockets are short
    config.write_text(
        f"""[mariadbd]
user = root
datadir = {data}
socket = {sockets}/s
port = {port}
bind_address = 127.0.0.1
pid_file = {base}/pid
ssl_cert = {current}/fullchain.pem
ssl_key = {current}/privkey.pem
innodb_flush_log_at_trx_commit = 0
[client]
socket = {sockets}/s
"""
    )
    flush = ("mariadb-admin", f"--defaults-file={config}", "flush-ssl")
    command = ("mariadbd", f"--defaults-file={config}")
    try:
        with _foreground(command, config, port, lambda _: flush) as server:
            yield server
    finally:
        shutil.rmtree(sockets)


@contextlib.contextmanager
def exim(current: Path, base: Path) -> Iterator[RunningServer]:
    """Unpacked; in a copy of the lists of accounts its own is another name of nobody."""
    port, config = free_port(), base / "exim.conf"
    root = exim_root()
    assert root is not None
    program = root / "usr/sbin/exim4"
    for name, line in (
        ("passwd", "Debian-exim:x:65534:65534::/:/usr/sbin/nologin\n"),
        ("group", "Debian-exim:x:65534:\n"),
    ):
        (base / name).write_text((Path("/etc") / name).read_text() + line)
    let_pass(base)
    (base / "spool").mkdir()
    (base / "spool").chmod(0o777)
    config.write_text(
        f"""exim_path = {program}
primary_hostname = {NAME}
keep_environment =
spool_directory = {base}/spool
log_file_path = {base}/spool/%slog
pid_file_path = {base}/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_on_connect_ports = {port}
tls_advertise_hosts = *
tls_certificate = {current}/fullchain.pem
tls_privatekey = {current}/privkey.pem
"""
    )
    inside = (
        f"mount --bind {base}/passwd /etc/passwd; mount --bind {base}/group /etc/group; "
        f"exec {program} -C {config} "
    )
    command = ("unshare", "--mount", "sh", "-c")
    with _foreground((*command, inside + "-bdf -q1h"), config, port, _hangup) as server:
        yield RunningServer(
            *(server.address, server.port, server.pid, config, server.log),
            (*command, inside + "-bV"),
            server.reload_command,
        )


DAEMONS: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[RunningServer]]] = {
    "openldap": openldap,
    "mariadb": mariadb,
    "exim": exim,
    "vsftpd": vsftpd,
    "mosquitto": mosquitto,
    "prosody": prosody,
    "cockpit": cockpit,
}
PROTOCOLS = dict.fromkeys(DAEMONS, "tls") | {"mariadb": "mysql", "prosody": "xmpp"}
