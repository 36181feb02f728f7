"""BIND 9.18 with a parent and a zone in it that are really signed, and a resolver that verifies."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Literal, Self

from tests.dns_peers import Records, zone_text
from tests.lab.peers import require
from tests.line import Host, this_machine, wait_until
from tests.pebble import Program

State = Literal["good", "expired", "another key"]
"""`expired`: the zone's signatures are over; `another key`: the parent's DS names another one."""

_SETTINGS = """\
options {{
    directory "{directory}";
    pid-file none;
    session-keyfile none;
    listen-on port 53 {{ {zones}; }};
    listen-on port {port} {{ {resolver}; }};
    listen-on-v6 {{ none; }};
    empty-zones-enable no;
}};
controls {{ }};
view "resolver" {{
    match-destinations {{ {resolver}; }};
    recursion yes;
    allow-recursion {{ any; }};
    dnssec-validation yes;
    trust-anchors {{ {anchor} }};
    zone "{parent}" {{ type static-stub; server-addresses {{ {zones}; }}; }};
}};
view "zones" {{
    match-clients {{ any; }};
    recursion no;
    dnssec-validation no;
    zone "{parent}" {{ type primary; file "{parent}.signed"; }};
    zone "{zone}" {{ type primary; file "{zone}.signed"; }};
}};
"""
_ALGORITHM = "ECDSAP256SHA256"


class SignedBind:
    """`named`: authoritative at `zones`, port 53, a verifying resolver at another address.

    Args:
        zone: below a parent of one label.
        records: of the zone.
        zones, resolver: addresses that the host has.
        port: of the resolver.
    """

    def __init__(
        self,
        zone: str,
        records: Records,
        *,
        state: State,
        zones: str,
        resolver: str,
        port: int,
        host: Host = this_machine,
    ) -> None:
        self._named = require("named")
        self._zone, self._records, self._state = zone, records, state
        self._zones, self._resolver, self._port = zones, resolver, port
        self._host = host
        self._program = Program("named")

    def __enter__(self) -> Self:
        settings = self._directory / "named.conf"
        settings.write_text(self._settings())
        argv = self._host(self._named, "-g", "-n", "1", "-c", str(settings))
        runs = partial(wait_until, self._runs, what="BIND runs")
        self._program.start(argv, [], {}, until=runs)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def _directory(self) -> Path:
        return self._program.directory

    def _runs(self) -> bool:
        log = self._program.log.read_text()
        assert "exiting (due to" not in log, log
        return log.count("(DNSSEC signed)") == 2 and " running\n" in log

    def _settings(self) -> str:
        zone, parent = self._zone, self._zone.partition(".")[2]
        key, another, parents_key = self._key(zone), self._key(zone), self._key(parent)
        ds = self._ds(another if self._state == "another key" else key)
        label = zone.removesuffix(f".{parent}")
        delegation = {label: [f"NS ns1.{zone}.", f"DS {ds}"], f"ns1.{label}": [f"A {self._zones}"]}
        self._sign(parent, delegation, parents_key)
        self._sign(zone, self._records, key, days=-30 if self._state == "expired" else 30)
        tag, algorithm, kind, digest = self._ds(parents_key).split()
        return _SETTINGS.format(
            directory=self._directory,
            zone=zone,
            parent=parent,
            zones=self._zones,
            resolver=self._resolver,
            port=self._port,
            anchor=f'"{parent}" static-ds {tag} {algorithm} {kind} "{digest}";',
        )

    def _sign(self, zone: str, records: Records, key: str, *, days: int = 30) -> None:
        """Sign for a year that ends in so many days."""
        keys = f"$INCLUDE {key}.key\n"
        (self._directory / zone).write_text(zone_text(zone, self._zones, records) + keys)
        end = time.time() + days * 86400
        # -P: it would refuse to write signatures that are over.
        self._run(
            *("dnssec-signzone", "-P", "-z", "-o", zone, "-f", f"{zone}.signed"),
            *("-s", _moment(end - 365 * 86400), "-e", _moment(end), zone, key),
        )

    def _key(self, zone: str) -> str:
        return self._run("dnssec-keygen", "-q", "-a", _ALGORITHM, "-f", "KSK", zone).strip()

    def _ds(self, key: str) -> str:
        return self._run("dnssec-dsfromkey", "-2", f"{key}.key").partition(" DS ")[2].strip()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [require(program), *arguments],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _moment(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))
