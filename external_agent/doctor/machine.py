"""This machine: files and modes, the database, room on the disk, listeners, the relay's URL."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from external_agent.present.alerts.settings import manner_of
from external_agent.settings import keys
from external_agent.settings.addresses import parse_address
from external_agent.settings.config import Settings
from external_agent.store.sqlite import has_wal_reset_bug
from shared.contract.diagnosis import Finding, Verdict
from shared.contract.errors import RelayError
from shared.contract.x509 import spki_sha256
from shared.host import systemctl

LITTLE_ROOM = 200 * 2**20
SECONDS = 5.0
_SOCKET = "external-agent-challenge.socket"
_LISTENS = re.compile(r"^Listen=.*:(\d+) \(Stream\)$", re.MULTILINE)
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def file_findings(settings: Settings) -> Iterator[Finding]:
    """Read every secret file as the agent would."""
    state = settings.state_directory
    good = True
    for name, read in (
        ("state directory", lambda: keys.check_directory(state)),
        ("keys", lambda: keys.load_keys(state)),
        ("receivers of alerts", lambda: manner_of(settings)),
        ("TLS files", lambda: keys.tls_files(settings)),
    ):
        try:
            read()
        except RelayError as error:
            good = False
            yield Finding("files", Verdict.PROBLEM, name, error.what, error.do)
    if good:
        yield Finding("files", Verdict.OK, str(state), f"The secrets in {state} are ours alone.")
    yield _room(state)


def _room(state: Path) -> Finding:
    try:
        status = os.statvfs(state)
    except OSError as error:
        return Finding("disk", Verdict.UNKNOWN, str(state), f"{state}: {error.strerror}.")
    left = status.f_bavail * status.f_frsize
    what = f"{left // 2**20} MiB are left on the disk of {state}."
    if left < LITTLE_ROOM:
        return Finding("disk", Verdict.WARNING, str(state), what, "Make room.")
    return Finding("disk", Verdict.OK, str(state), what)


def database_findings(description: str) -> Iterator[Finding]:
    """Name the engine, and the fault of SQLite that the agent steers clear of."""
    yield Finding("database", Verdict.OK, "database", f"The database answers: {description}.")
    version = sqlite3.sqlite_version
    if "SQLite" in description and has_wal_reset_bug(sqlite3.sqlite_version_info):
        what = f"SQLite {version} may corrupt a write-ahead log, so none is kept (decision 0007)."
        do = "Nothing; with SQLite 3.51.3 or later the database is quicker."
        yield Finding("database", Verdict.NOTE, "database", what, do)


def listener_findings(addresses: Sequence[str], what: str, *, running: bool) -> Iterator[Finding]:
    """Say whether a listener of ours is open, or could be.

    Args:
        running: the agent serves now; then every address must take connections.
    """
    held = frozenset() if running else _held_by_systemd()
    for text in addresses:
        address = parse_address(text)
        host = _LOOPBACK.get(address.host, address.host)
        if address.port in held:  # a connection would start the agent
            what_is = f"systemd holds {text} for the agent: {_SOCKET}."
            yield Finding("listeners", Verdict.OK, what, what_is)
            continue
        taken = _takes_connections(host, address.port)
        if running and taken:
            yield Finding("listeners", Verdict.OK, what, f"The {what} listener {text} is open.")
        elif running and address.host == "::" and not _has_ipv6():
            yield Finding("listeners", Verdict.NOTE, what, "This machine has no IPv6.")
        elif running:
            what_is = f"The {what} listener {text} takes no connection."
            yield Finding("listeners", Verdict.PROBLEM, what, what_is, "See the agent's log.")
        elif taken:
            yield Finding(
                "listeners",
                Verdict.PROBLEM,
                what,
                f"Another program holds {text}, where the {what} listener belongs.",
                "Stop it (ss -ltnp names it), or let it pass the challenges on: see deploy/nginx, "
                "deploy/apache, deploy/caddy, deploy/haproxy.",
            )


def _held_by_systemd() -> frozenset[int]:
    """Return the ports at which systemd listens for the agent."""
    if not systemctl.is_there():
        return frozenset()
    done = systemctl.ask("show", "-p", "ActiveState,Listen", _SOCKET)
    told = "" if done is None else done.stdout
    if "ActiveState=active" not in told.splitlines():
        return frozenset()
    return frozenset(map(int, _LISTENS.findall(told)))


def _takes_connections(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def relay_findings(settings: Settings) -> Iterator[Finding]:
    """Visit the relay by the URL that pullers use, and see whether it is ours."""
    url = settings.relay.url
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    if parts.scheme == "http":
        yield Finding("relay-url", Verdict.NOTE, url, "The relay is on loopback, without TLS.")
        return
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            shown = connection.getpeercert(binary_form=True) or b""
    except socket.gaierror:
        yield Finding(
            "relay-url",
            Verdict.PROBLEM,
            url,
            f"The host of relay.url, {host}, has no address here.",
            f"Give {host} an address in the DNS that pullers ask.",
        )
        return
    except OSError as error:
        yield Finding("relay-url", *_unreachable(url, error))
        return
    yield _ours(settings, url, shown)


def _unreachable(url: str, error: OSError) -> tuple[Verdict, str, str, str]:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ECONNREFUSED:
        do = "Does the agent run? Is the port of relay.listen the one of relay.url?"
    else:
        do = "Is the port open in the firewall of this machine, and at its provider?"
    return Verdict.PROBLEM, url, f"The relay cannot be reached at {url}: {reason}.", do


def _ours(settings: Settings, url: str, shown: bytes) -> Finding:
    if settings.relay.tls == "none":
        what = f'A proxy answers at {url}, as it should with relay.tls = "none".'
        return Finding("relay-url", Verdict.OK, url, what)
    try:
        files = keys.tls_files(settings)
        own = keys.certificate_pin(files[0]) if files else ""
    except RelayError:
        own = ""
    if own and own == _pin(shown):
        return Finding("relay-url", Verdict.OK, url, f"{url} shows this agent's TLS key.")
    if settings.relay.tls == "acme":
        return Finding("relay-url", Verdict.OK, url, f"{url} answers with TLS.")
    return Finding(
        "relay-url",
        Verdict.PROBLEM,
        url,
        f"{url} shows another TLS key than this agent's.",
        "Another program or machine answers there: look at the DNS and at what holds the port.",
    )


def _pin(der: bytes) -> str:
    try:
        return spki_sha256(x509.load_der_x509_certificate(der))
    except ValueError:
        return ""
