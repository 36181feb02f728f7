"""What a doctor finds on one side, how it travels to the other, and what both together mean.

Each side looks at what only it can see. The agent knows how the Internet sees a name, the
puller how the intranet does; the misunderstandings of split DNS show where the two are laid side by
side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Self

from shared.contract import strict_json
from shared.contract.errors import MalformedMessage
from shared.contract.http_signatures import MAX_BODY
from shared.contract.strict_json import Members

DOCTOR_PATH = "/v1/doctor"
MAX_HALF = 256 * 1024
MAX_FINDINGS = 1000
SKEW_TO_MENTION = 30
"""Seconds that two clocks may differ and nobody has to know."""
SET_CLOCK = "Let chrony or systemd-timesyncd set the clock: timedatectl set-ntp true"
_MAX_TEXT = 1200

Side = Literal["agent", "puller"]


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    UNKNOWN = "unknown"
    """It could not be made: no pass, and no fault."""
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def is_good(self) -> bool:
        return self in (Verdict.OK, Verdict.NOTE)


_WORST_FIRST = (Verdict.PROBLEM, Verdict.WARNING, Verdict.UNKNOWN, Verdict.NOTE, Verdict.OK)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Attributes:
        check: stable word for what was looked at.
        subject: the name, certificate, file or address that is meant.
        what: one sentence.
        do: the next step; empty where there is none.
    """

    check: str
    verdict: Verdict
    subject: str
    what: str
    do: str = ""

    def members(self) -> dict[str, object]:
        return {
            "check": self.check,
            "verdict": str(self.verdict),
            "subject": self.subject[:_MAX_TEXT],
            "what": self.what[:_MAX_TEXT],
            "do": self.do[:_MAX_TEXT],
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            check=members.text("check", max_length=64),
            verdict=Verdict(members.one_of("verdict", frozenset(map(str, Verdict)))),
            subject=members.text("subject", max_length=_MAX_TEXT),
            what=members.text("what", max_length=_MAX_TEXT),
            do=members.text("do", max_length=_MAX_TEXT),
        )


@dataclass(frozen=True, slots=True)
class NameSeen:
    """What addresses a name has for one side.

    Attributes:
        addresses: IP addresses in text, sorted; of the agent none if a DNS challenge validates the
            name, for then nobody has to be led to it.
        here: on the puller, whether one of them is this machine's, or that of one where it installs
            the name by SSH; on the agent, whether all of them lead to it.
    """

    name: str
    addresses: tuple[str, ...]
    here: bool

    def members(self) -> dict[str, object]:
        return {"name": self.name, "addresses": list(self.addresses), "here": self.here}

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            name=members.text("name", max_length=255),
            addresses=members.texts("addresses", max_items=32),
            here=members.boolean("here"),
        )


@dataclass(frozen=True, slots=True)
class Half:
    """What one side found.

    Attributes:
        host: how the machine calls itself.
        at: unix seconds.
    """

    side: Side
    host: str
    at: int
    findings: tuple[Finding, ...] = ()
    names: tuple[NameSeen, ...] = field(default=())

    def encode(self) -> bytes:
        """Return it for the way; a puller's fits into a request, if need be only with faults."""
        octets = self._encoded(self.findings)
        if self.side == "puller" and len(octets) > MAX_BODY:
            bad = tuple(one for one in self.findings if not one.verdict.is_good)
            octets = self._encoded(bad[:20])
        return octets

    def _encoded(self, findings: tuple[Finding, ...]) -> bytes:
        return strict_json.encode(
            {
                "side": self.side,
                "host": self.host,
                "at": self.at,
                "findings": [one.members() for one in findings[:MAX_FINDINGS]],
                "names": [one.members() for one in self.names[:MAX_FINDINGS]],
            }
        )

    @classmethod
    def decode(cls, data: bytes, side: Side) -> Self:
        """
        Raises:
            MalformedMessage: not the half of that side.
        """
        members = strict_json.decode_object(
            data, "The doctor's half", max_size=MAX_HALF, error=MalformedMessage
        )
        members.one_of("side", frozenset((side,)))
        half = cls(
            side=side,
            host=members.text("host", max_length=255),
            at=members.integer("at"),
            findings=members.objects("findings", Finding.read, max_items=MAX_FINDINGS),
            names=members.objects("names", NameSeen.read, max_items=MAX_FINDINGS),
        )
        members.nothing_left()
        return half


def compare(agent: Half | None, puller: Half | None) -> tuple[Finding, ...]:
    """Return what only both halves together show, name by name."""
    if agent is None or puller is None:
        return ()
    outside: Mapping[str, NameSeen] = {one.name: one for one in agent.names}
    return tuple(
        finding
        for inside in puller.names
        if (other := outside.get(inside.name)) is not None
        for finding in _compare_name(other, inside, puller.host)
    )


def _compare_name(outside: NameSeen, inside: NameSeen, host: str) -> Iterable[Finding]:
    name = inside.name
    shared = sorted(set(outside.addresses) & set(inside.addresses))
    shown = ", ".join(inside.addresses)
    if not inside.addresses or not outside.addresses:
        return  # a half has said so already, or a DNS challenge leads nobody there
    if shared and not inside.here:
        yield Finding(
            "split-dns",
            Verdict.PROBLEM,
            name,
            f"{name} has the same answer inside as outside ({', '.join(shared)}): people on the "
            f"intranet are led to the agent's machine, not to {host}.",
            f"Give {name} the address of {host} in the internal DNS only.",
        )
    elif shared and not outside.here:
        yield Finding(
            "split-dns",
            Verdict.PROBLEM,
            name,
            f"{name} has the same answer outside as inside ({', '.join(shared)}): the CA is led to "
            f"{host}, not to the agent's machine.",
            f"Give {name} the address of the agent's machine in the public DNS only.",
        )
    elif inside.here:
        yield Finding(
            "split-dns",
            Verdict.OK,
            name,
            f"{name} is {', '.join(outside.addresses)} outside; inside it is {shown}, {host}.",
        )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return them the worst first, otherwise as they came."""
    return sorted(findings, key=lambda one: _WORST_FIRST.index(one.verdict))


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether every check was made and none found anything wrong."""
    return all(one.verdict.is_good for one in findings)
