"""What the real DNS servers of the tests share: zones as text, and questions to a server."""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdataclass
import dns.rdatatype
import dns.tsig

from tests.pebble import START_SECONDS, Program

Address = tuple[str, int]
Records = Mapping[str, Sequence[str]]
"""Owner (`@` or relative) to lines such as `A 192.0.2.1`."""


@dataclass(frozen=True)
class TsigKey:
    """A key that both a server and a client are given."""

    name: str = "relay-key"
    algorithm: str = "hmac-sha256"
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    @property
    def in_bind_form(self) -> str:
        return (
            f'key "{self.name}" {{\n\talgorithm {self.algorithm};\n\tsecret "{self.secret}";\n}};\n'
        )

    @property
    def for_dnspython(self) -> dns.tsig.Key:
        return dns.tsig.Key(dns.name.from_text(self.name), self.secret, self.algorithm + ".")

    def write(self, path: Path) -> Path:
        """Write a key file that only we may read."""
        path.touch(0o600)
        path.write_text(self.in_bind_form)
        return path


def zone_text(zone: str, server: str, records: Records) -> str:
    """Return a zone file; `server` is the address of its one name server, `ns1`."""
    kind = "AAAA" if ":" in server else "A"
    lines = [
        "$TTL 1",
        f"@ SOA ns1.{zone}. hostmaster.{zone}. 1 3600 600 86400 1",
        f"@ NS ns1.{zone}.",
        f"ns1 {kind} {server}",
    ]
    lines += [f"{owner} {one}" for owner, listed in records.items() for one in listed]
    return "\n".join(lines) + "\n"


def texts(server: Address, name: str, key: TsigKey | None = None) -> set[str]:
    """Return the TXT records that a server shows, each joined."""
    query = dns.message.make_query(name, dns.rdatatype.TXT)
    if key is not None:
        query.use_tsig(key.for_dnspython)
    answer = dns.query.tcp(query, server[0], timeout=5, port=server[1])
    found = answer.get_rrset(
        answer.answer, dns.name.from_text(name), dns.rdataclass.IN, dns.rdatatype.TXT
    )
    return {b"".join(one.strings).decode() for one in found or ()}


def wait_until_answering(server: Address, zone: str, program: Program) -> None:
    """Return when a server answers for a zone; raise with its log when it does not."""
    deadline = time.monotonic() + START_SECONDS
    query = dns.message.make_query(zone, dns.rdatatype.SOA)
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, EOFError, dns.exception.DNSException):
            if dns.query.tcp(query, server[0], timeout=1, port=server[1]).answer:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{server} does not answer for {zone}:\n{program.log.read_text()[-3000:]}")
