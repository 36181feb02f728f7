"""BIND 9.18 with an inside and an outside view of the same zones, changed by DNS UPDATE.

The address that is asked selects the view, except that the TSIG key always selects the outside
one: so that an update which comes from inside changes what the Internet sees.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.dns_peers import Address, Records, TsigKey, wait_until_answering, zone_text
from tests.lab.peers import require
from tests.lab.ports import free_port
from tests.own_address import own_address
from tests.pebble import Program

_SETTINGS = """\
options {{
    directory "{directory}";
    pid-file none;
    listen-on port {port} {{ {outside}; {inside}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    allow-transfer {{ none; }};
    notify no;
    empty-zones-enable no;
}};
controls {{ }};
{keys}
view "inside" {{
    match-clients {{ !key "{key}"; any; }};
    match-destinations {{ {inside}; }};
{inside_zones}
}};
view "outside" {{
    match-clients {{ any; }};
{outside_zones}
}};
"""
_ZONE = """\
    zone "{zone}" {{
        type primary;
        file "{file}";
{policy}    }};
"""


class Bind:
    """`named`; needs root, for its two addresses and for port 53.

    Args:
        zones: zone to records, as the Internet sees them.
        inside: the same for the intranet; nothing is updated there.
        key: may change TXT records anywhere in the outside zones.
        other_keys: known to the server, and granted nothing.
        port: 0 is any free port.

    Attributes:
        outside, inside: address and port of the views.
    """

    def __init__(
        self,
        zones: Mapping[str, Records],
        *,
        inside: Mapping[str, Records] | None = None,
        key: TsigKey | None = None,
        other_keys: tuple[TsigKey, ...] = (),
        port: int = 0,
    ) -> None:
        self._named = require("named")
        if os.geteuid() != 0:
            pytest.skip("root is needed to give BIND addresses of its own")
        self._zones, self._inside_zones = zones, inside or {}
        self.key, self._other_keys = key or TsigKey(), other_keys
        self._port = port or free_port()
        self.outside: Address = (own_address(), self._port)
        self.inside: Address = (own_address(), self._port)
        self._program = Program("named")

    def __enter__(self) -> Self:
        # It listens only on addresses that an interface has.
        for address, _ in (self.outside, self.inside):
            _interface("replace", address)
        settings = self._program.directory / "named.conf"
        settings.write_text(self._settings())
        argv = [self._named, "-g", "-n", "1", "-c", str(settings)]
        try:
            self._program.start(argv, [], {})
            wait_until_answering(self.outside, next(iter(self._zones)), self._program)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._program.stop()
        for address, _ in (self.outside, self.inside):
            _interface("del", address)

    @property
    def log(self) -> str:
        return self._program.log.read_text()

    @property
    def directory(self) -> Path:
        return self._program.directory

    def _settings(self) -> str:
        grant = f'        update-policy {{ grant "{self.key.name}" zonesub TXT; }};\n'
        return _SETTINGS.format(
            directory=self.directory,
            port=self._port,
            outside=self.outside[0],
            inside=self.inside[0],
            key=self.key.name,
            keys="".join(one.in_bind_form for one in (self.key, *self._other_keys)),
            inside_zones=self._view("inside", self._inside_zones, self.inside, ""),
            outside_zones=self._view("outside", self._zones, self.outside, grant),
        )

    def _view(self, name: str, zones: Mapping[str, Records], server: Address, policy: str) -> str:
        blocks = []
        for zone, records in zones.items():
            file = self.directory / f"{name}.{zone}.zone"
            file.write_text(zone_text(zone, server[0], records))
            blocks.append(_ZONE.format(zone=zone, file=file, policy=policy))
        return "".join(blocks)


def _interface(verb: str, address: str) -> None:
    subprocess.run(["ip", "address", verb, f"{address}/32", "dev", "lo"], check=True)
