"""Knot DNS as a primary that is changed by DNS UPDATE; it has no views, so start two for those."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

from tests.dns_peers import Address, Records, TsigKey, wait_until_answering, zone_text
from tests.lab.peers import require
from tests.lab.ports import free_port
from tests.own_address import own_address
from tests.pebble import Program

_SETTINGS = """\
server:
    rundir: "{directory}"
    listen: "{address}@{port}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stdout
    any: info
database:
    storage: "{directory}"
key:
{keys}
acl:
  - id: update
    key: {key}
    action: update
    update-type: [TXT]
template:
  - id: default
    storage: "{directory}"
    file: "%s.zone"
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: all
    acl: update
zone:
{zones}
"""
_KEY = """\
  - id: {key.name}
    algorithm: {key.algorithm}
    secret: {key.secret}
"""


class Knot:
    """`knotd`, as root only with port 53.

    Args:
        zones: zone to records.
        key: may change TXT records anywhere in the zones.
        other_keys: known to the server, and granted nothing.
        port: 0 is any free port.

    Attributes:
        address: address and port.
    """

    def __init__(
        self,
        zones: Mapping[str, Records],
        *,
        key: TsigKey | None = None,
        other_keys: tuple[TsigKey, ...] = (),
        port: int = 0,
    ) -> None:
        self._knotd = require("knotd")
        self._zones = zones
        self.key, self._other_keys = key or TsigKey(), other_keys
        self.address: Address = (own_address(), port or free_port())
        self._program = Program("knotd")

    def __enter__(self) -> Self:
        settings = self.directory / "knot.conf"
        for zone, records in self._zones.items():
            (self.directory / f"{zone}.zone").write_text(zone_text(zone, self.address[0], records))
        settings.write_text(self._settings())
        answers = partial(
            wait_until_answering, self.address, next(iter(self._zones)), self._program
        )
        self._program.start([self._knotd, "-c", str(settings)], [], {}, until=answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def log(self) -> str:
        return self._program.log.read_text()

    @property
    def directory(self) -> Path:
        return self._program.directory

    def _settings(self) -> str:
        return _SETTINGS.format(
            directory=self.directory,
            address=self.address[0],
            port=self.address[1],
            key=self.key.name,
            keys="".join(_KEY.format(key=one) for one in (self.key, *self._other_keys)),
            zones="".join(f"  - domain: {zone}\n" for zone in self._zones),
        )
