"""Real servers with many listeners each, started by hand: what a probe may meet.

Each takes an empty directory and pairs of files, and yields its ports by name. A server is asked
for nothing but TLS, so the configurations hold nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.peers import clean_environment
from tests.lab.ports import free_port
from tests.more_servers import postgresql_bin
from tests.unit.internal_puller.install.probe.fakes import NAME, Pair

Ports = Mapping[str, int]


def _ports(*names: str) -> dict[str, int]:
    return {name: free_port() for name in names}


@contextlib.contextmanager
def started(
    *argv: str, log: Path, number: signal.Signals = signal.SIGTERM, user: str = "root"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground until the block ends."""
    account = pwd.getpwnam(user)
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment(),
            start_new_session=True,
            cwd="/",
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=(),
        )
    try:
        yield process
    finally:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _combined(base: Path, one: Pair, suffix: str = ".combined") -> Path:
    path = base / f"{one.chain.stem}{suffix}"
    path.write_bytes(one.key.read_bytes() + one.chain.read_bytes())
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def nginx(base: Path, ecdsa: Pair, rsa: Pair, mixed: Pair) -> Iterator[Ports]:
    both = "".join(
        f"ssl_certificate {one.chain}; ssl_certificate_key {one.key};" for one in (ecdsa, rsa)
    )
    ours = f"ssl_certificate {ecdsa.chain}; ssl_certificate_key {ecdsa.key};"
    client = f"ssl_client_certificate {ecdsa.chain}; ssl_verify_client on;"
    listeners = {
        "both-1.2": ("ssl", f"{both} ssl_protocols TLSv1.2;"),
        "both-1.3": ("ssl", f"{both} ssl_protocols TLSv1.3;"),
        "proxy": ("ssl proxy_protocol", ours),
        "client-1.2": ("ssl", f"{ours} {client} ssl_protocols TLSv1.2;"),
        "client-1.3": ("ssl", f"{ours} {client} ssl_protocols TLSv1.3;"),
        "other-suites": ("ssl", f"{ours} ssl_protocols TLSv1.2; ssl_ciphers aRSA;"),
        "mixed-1.2": (
            "ssl",
            f"ssl_certificate {mixed.chain}; ssl_certificate_key {mixed.key}; "
            "ssl_protocols TLSv1.2;",
        ),
        "mixed-1.3": (
            "ssl",
            f"ssl_certificate {mixed.chain}; ssl_certificate_key {mixed.key}; "
            "ssl_protocols TLSv1.3;",
        ),
        "rejects": ("ssl", "ssl_reject_handshake on;"),
        "plain": ("", ""),
        "old": ("ssl", f"{ours} ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"),
    }
    ports = _ports(*listeners)
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{ports[name]} {how}; server_name {NAME}; {more} }}"
        for name, (how, more) in listeners.items()
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {base}/{kind};" for kind in kinds)
    (base / "nginx.conf").write_text(
        f"user root; worker_processes 1; pid {base}/pid; error_log {base}/log;\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n{servers}\n}}\n"
    )
    argv = ("nginx", "-p", str(base), "-e", f"{base}/log", "-c", f"{base}/nginx.conf")
    with started(*argv, "-g", "daemon off;", log=base / "log"):
        yield ports


@contextlib.contextmanager
def apache(base: Path, ecdsa: Pair, rsa: Pair) -> Iterator[Ports]:
    def files(one: Pair) -> str:
        return f"SSLCertificateFile {one.chain}\nSSLCertificateKeyFile {one.key}"

    hosts = {
        "both": f"{files(ecdsa)}\n{files(rsa)}",
        "old": f"{files(rsa)}\nSSLProtocol -all +TLSv1 +TLSv1.1\n"
        "SSLCipherSuite AES256-SHA:@SECLEVEL=0",
        "client-1.2": f"{files(ecdsa)}\nSSLProtocol TLSv1.2\nSSLVerifyClient require\n"
        f"SSLCACertificateFile {ecdsa.chain}",
        "proxy": f"{files(ecdsa)}\nRemoteIPProxyProtocol On",
        "other-suites": f"{files(ecdsa)}\nSSLProtocol TLSv1.2\nSSLCipherSuite aRSA",
    }
    ports = _ports(*hosts)
    names = ("mpm_event", "authz_core", "socache_shmcb", "ssl", "remoteip")
    loads = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in names
    )
    listens = "".join(f"Listen 127.0.0.1:{port} https\n" for port in ports.values())
    servers = "".join(
        f"<VirtualHost 127.0.0.1:{ports[name]}>\nSSLEngine on\n{more}\n</VirtualHost>\n"
        for name, more in hosts.items()
    )
    (base / "apache.conf").write_text(
        f"ServerRoot {base}\nServerName {NAME}\nPidFile {base}/pid\nMutex file:{base}\n"
        f"ErrorLog {base}/log\nStartServers 1\n{loads}{listens}{servers}"
    )
    with started("apache2", "-f", f"{base}/apache.conf", "-D", "FOREGROUND", log=base / "log"):
        yield ports


@contextlib.contextmanager
def haproxy(base: Path, ecdsa: Pair, rsa: Pair) -> Iterator[Ports]:
    ours = _combined(base, ecdsa)
    for one, kind in ((ecdsa, "ecdsa"), (rsa, "rsa")):
        shutil.copy(_combined(base, one), base / f"both.pem.{kind}")
    binds = {
        "client-1.2": f"crt {ours} ca-file {ecdsa.chain} verify required ssl-max-ver TLSv1.2",
        "client-1.3": f"crt {ours} ca-file {ecdsa.chain} verify required ssl-min-ver TLSv1.3",
        "proxy": f"crt {ours} accept-proxy",
        "both-1.2": f"crt {base}/both.pem ssl-max-ver TLSv1.2",
        "both-1.3": f"crt {base}/both.pem ssl-min-ver TLSv1.3",
        "other-suites": f"crt {ours} ssl-max-ver TLSv1.2 ciphers aRSA",
    }
    ports = _ports(*binds)
    lines = "".join(f"  bind 127.0.0.1:{ports[name]} ssl {more}\n" for name, more in binds.items())
    (base / "haproxy.cfg").write_text(
        "global\n  maxconn 64\n  ssl-load-extra-files bundle\ndefaults\n  mode http\n"
        "  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n"
        f"frontend all\n{lines}  http-request return status 200\n"
    )
    with started("haproxy", "-f", f"{base}/haproxy.cfg", log=base / "log"):
        yield ports


@contextlib.contextmanager
def openssl(base: Path, ecdsa: Pair, rsa: Pair) -> Iterator[Ports]:
    """``s_server`` has one listener: one program for each."""
    ways = {
        "tls1": (ecdsa, "-tls1 -cipher ALL:@SECLEVEL=0"),
        "tls1_1": (rsa, "-tls1_1 -cipher ALL:@SECLEVEL=0"),
        "one-suite-1.0": (rsa, "-tls1 -cipher AES128-SHA:@SECLEVEL=0"),
        "sha1-dhe": (rsa, "-tls1_2 -cipher DHE-RSA-CAMELLIA256-SHA:@SECLEVEL=0"),
        "no-encryption": (rsa, "-tls1_2 -cipher NULL-SHA256:@SECLEVEL=0"),
        "legacy": (rsa, "-tls1_2 -legacy_renegotiation"),
    }
    ports = _ports(*ways)
    with contextlib.ExitStack() as stack:
        for name, (one, options) in ways.items():
            argv = ("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{ports[name]}")
            files = ("-cert", str(one.chain), "-key", str(one.key))
            stack.enter_context(started(*argv, *files, *options.split(), log=base / name))
        yield ports


@contextlib.contextmanager
def postfix(base: Path, ours: Pair) -> Iterator[Ports]:
    ports = _ports("smtp", "smtps", "proxy+smtp", "proxy2+smtp", "none")
    config, queue, data = base / "etc", base / "queue", base / "data"
    for place in (config, queue, data):
        place.mkdir()
    shutil.chown(data, "postfix")
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n"
        f"config_directory = {config}\nmaillog_file = {base}/log\nmaillog_file_prefixes = {base}\n"
        f"mynetworks_style = host\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
        f"myhostname = {NAME}\nsmtpd_tls_chain_files = {_combined(base, ours)}\n"
        "smtpd_tls_security_level = may\n"
    )
    more = {
        "smtps": "-o smtpd_tls_wrappermode=yes",
        "proxy+smtp": "-o smtpd_upstream_proxy_protocol=haproxy",
        "proxy2+smtp": "-o smtpd_upstream_proxy_protocol=haproxy",
        "none": "-o smtpd_tls_security_level=none",
    }
    lines = [
        f"127.0.0.1:{port} inet n - n - - smtpd {more.get(name, '')}"
        for name, port in ports.items()
    ]
    for name, most, program in (
        ("anvil", 1, "anvil"),
        ("tlsmgr", 1, "tlsmgr"),
        ("rewrite", "-", "trivial-rewrite"),
        ("cleanup", 0, "cleanup"),
        ("proxymap", "-", "proxymap"),
    ):
        lines.append(f"{name} unix - - n - {most} {program}")
    lines.append("postlog unix-dgram n - n - 1 postlogd\n")
    (config / "master.cf").write_text("\n".join(lines))
    subprocess.run(("postfix", "-c", config, "start"), check=True, capture_output=True, timeout=60)
    try:
        yield ports
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((queue / "pid/master.pid").read_text()), signal.SIGTERM)


@contextlib.contextmanager
def dovecot(base: Path, ours: Pair) -> Iterator[Ports]:
    names = ("imap", "imaps", "pop3", "pop3s", "lmtp", "sieve", "proxy+imap", "proxy2+pop3")
    ports = _ports(*names)

    def listener(kind: str, scheme: str = "", more: str = "") -> str:
        port = ports[scheme or kind]
        return f"inet_listener {kind} {{\naddress = 127.0.0.1\nport = {port}\n{more}\n}}\n"

    run = Path(tempfile.mkdtemp(prefix="dovecot-"))  # the names of sockets are short
    run.chmod(0o755)
    (base / "dovecot.conf").write_text(
        f"base_dir = {run}\nstate_dir = {base}/state\nlog_path = {base}/log\n"
        "protocols = imap pop3 lmtp sieve\nssl = yes\nhaproxy_trusted_networks = 127.0.0.0/8\n"
        f"ssl_cert = <{ours.chain}\nssl_key = <{ours.key}\nmail_location = maildir:{base}/mail\n"
        "passdb {\ndriver = static\nargs = nopassword=y\n}\n"
        f"userdb {{\ndriver = static\nargs = uid=nobody gid=nogroup home={base}/home\n}}\n"
        f"service imap-login {{\nchroot =\n{listener('imap')}"
        f"{listener('imaps', more='ssl = yes')}"
        f"{listener('imap-haproxy', 'proxy+imap', 'haproxy = yes')}}}\n"
        f"service pop3-login {{\nchroot =\n{listener('pop3')}"
        f"{listener('pop3s', more='ssl = yes')}"
        f"{listener('pop3-haproxy', 'proxy2+pop3', 'haproxy = yes')}}}\n"
        f"service lmtp {{\n{listener('lmtp')}}}\n"
        f"service managesieve-login {{\nchroot =\n{listener('sieve')}}}\n"
    )
    try:
        with started("dovecot", "-F", "-c", f"{base}/dovecot.conf", log=base / "log"):
            yield ports
    finally:
        shutil.rmtree(run, ignore_errors=True)


@contextlib.contextmanager
def slapd(base: Path, ours: Pair) -> Iterator[Ports]:
    ports = _ports("ldap", "ldaps")
    (base / "db").mkdir()
    (base / "slapd.conf").write_text(
        f"include /etc/ldap/schema/core.schema\npidfile {base}/pid\nmodulepath /usr/lib/ldap\n"
        f"moduleload back_mdb\nTLSCertificateFile {ours.chain}\nTLSCertificateKeyFile {ours.key}\n"
        f"database mdb\nmaxsize 1048576\nsuffix dc=example\ndirectory {base}/db\n"
    )
    urls = " ".join(f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items())
    with started("slapd", "-d", "0", "-h", urls, "-f", f"{base}/slapd.conf", log=base / "log"):
        yield ports


@contextlib.contextmanager
def mariadb(base: Path, ours: Pair) -> Iterator[Ports]:
    ports, data = _ports("mysql"), base / "data"
    options = (
        "--no-defaults",
        f"--datadir={data}",
        "--user=root",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-log-file-size=4M",
        "--innodb-buffer-pool-size=8M",
    )
    subprocess.run(
        ("mariadb-install-db", *options, "--auth-root-authentication-method=normal"),
        check=True,
        capture_output=True,
        timeout=100,
    )
    with started(
        "mariadbd",
        *options,
        "--bind-address=127.0.0.1",
        f"--port={ports['mysql']}",
        f"--socket={base}/sock",
        f"--pid-file={base}/pid",
        f"--ssl-cert={ours.chain}",
        f"--ssl-key={ours.key}",
        log=base / "log",
    ):
        yield ports


@contextlib.contextmanager
def postgresql(base: Path, ours: Pair) -> Iterator[Ports]:
    programs, ports, data = postgresql_bin(), _ports("postgresql"), base / "data"
    assert programs is not None
    account = pwd.getpwnam("postgres")
    data.mkdir()
    files = {name: base / name for name in ("chain.pem", "key.pem")}
    shutil.copy(ours.chain, files["chain.pem"])
    shutil.copy(ours.key, files["key.pem"])
    for place in (data, *files.values()):
        shutil.chown(place, "postgres")
    files["key.pem"].chmod(0o600)
    subprocess.run(
        (programs / "initdb", "-D", data, "-A", "trust", "--no-sync"),
        check=True,
        capture_output=True,
        timeout=60,
        user=account.pw_uid,
        cwd="/",
    )
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": ports["postgresql"],
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": files["chain.pem"],
        "ssl_key_file": files["key.pem"],
        "fsync": "off",
    }
    given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    postgres = str(programs / "postgres")
    argv = (postgres, "-D", str(data), *given)
    with started(*argv, log=base / "log", number=signal.SIGINT, user="postgres"):
        yield ports


@contextlib.contextmanager
def vsftpd(base: Path, ours: Pair) -> Iterator[Ports]:
    ports = _ports("ftp", "ftps")
    (base / "empty").mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        for scheme, port in ports.items():
            settings = {
                "listen": "YES",
                "background": "NO",
                "listen_address": "127.0.0.1",
                "listen_port": port,
                "anonymous_enable": "YES",
                "secure_chroot_dir": base / "empty",
                "ssl_enable": "YES",
                "rsa_cert_file": ours.chain,
                "rsa_private_key_file": ours.key,
                "implicit_ssl": "YES" if scheme == "ftps" else "NO",
                "ssl_tlsv1": "YES",
                "seccomp_sandbox": "NO",
            }
            config = base / f"{scheme}.conf"
            config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            stack.enter_context(started("vsftpd", str(config), log=base / scheme))
        yield ports


@contextlib.contextmanager
def prosody(base: Path, ours: Pair) -> Iterator[Ports]:
    ports, data = _ports("xmpp", "xmpp-server", "xmpps"), base / "data"
    data.mkdir()
    files = {name: base / name for name in ("chain.pem", "key.pem")}
    shutil.copy(ours.chain, files["chain.pem"])
    shutil.copy(ours.key, files["key.pem"])
    for place in (data, *files.values()):
        shutil.chown(place, "prosody")
    pair = f'{{ certificate = "{files["chain.pem"]}", key = "{files["key.pem"]}" }}'
    (base / "prosody.cfg.lua").write_text(
        f'data_path = "{data}"\npidfile = "{data}/pid"\nlog = {{ info = "*console" }}\n'
        'modules_enabled = { "tls", "saslauth", "dialback" }\nmodules_disabled = { "http" }\n'
        f'interfaces = {{ "127.0.0.1" }}\nc2s_ports = {{ {ports["xmpp"]} }}\n'
        f"s2s_ports = {{ {ports['xmpp-server']} }}\nc2s_direct_tls_ports = {{ {ports['xmpps']} }}\n"
        f"c2s_direct_tls_ssl = {pair}\n"
        f'VirtualHost "{NAME}"\nssl = {pair}\n'
    )
    argv = ("prosody", "--config", f"{base}/prosody.cfg.lua", "-F")
    with started(*argv, log=base / "log", user="prosody"):
        yield ports


def log_of(base: Path) -> str:
    """Return what the servers in a directory said, for a failure."""
    texts = [
        path.read_text(errors="replace")[-1500:] for path in base.glob("*log*") if path.is_file()
    ]
    return "\n".join(texts)
