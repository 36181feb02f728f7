"""What was seen at a probe point. Four answers: two of them yes, one no, one not known.

Only the standard library: the quiet path of ``pull`` may come here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """How far a look came."""

    PROVEN = "proven"
    """A leaf was seen, and the handshake proved that the server has its key."""
    SHOWN = "shown"
    """A leaf was seen; the handshake ended after it: ``Look.why``."""
    NONE = "none"
    """The machine answered, and showed none: refused, closed, an alert before it, no TLS."""
    NOT_KNOWN = "not-known"
    """Name not resolved, no answer in time, no way there, asked to wait, or a fault here."""


class Trouble(StrEnum):
    """What a handshake says of the server's health, beside the leaf."""

    MIXED_PAIR = "mixed-pair"
    """Its signature is not by the key of the leaf."""
    NO_HANDSHAKE = "no-handshake"
    """No version and suite of ours completes one, and not for want of a client certificate."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one address of one probe point answered.

    Attributes:
        address: what was connected to: an IP address, or the name where it was not resolved.
        port, sni: of the probe point.
        not_after: unix seconds, of the leaf; ``None`` without one.
        leaf_sha256: lower-case hex SHA-256 of the leaf's DER; ``None`` exactly for ``NONE`` and
            ``NOT_KNOWN``.
        whose: the names of the leaf, or its subject where it has none; empty if not known.
        why: in words, why there is no more; empty for ``PROVEN``.
        trouble: the server's own, if a handshake showed it.
    """

    address: str
    port: int
    sni: str
    answer: Answer
    leaf_sha256: str | None = None
    not_after: int | None = None
    whose: str = ""
    why: str = ""
    trouble: Trouble | None = None

    @property
    def where(self) -> tuple[str, int, str]:
        """By this a look before is told from another, and found again after."""
        return self.address, self.port, self.sni

    def seen(self) -> str:
        """Return what was seen, without where."""
        if self.leaf_sha256 is None:
            return self.why
        leaf = f"leaf {self.leaf_sha256[:16]}"
        if self.whose:
            leaf = f"{leaf} of {self.whose}"
        return f"{leaf}, {self.why}" if self.why else leaf

    def describe(self) -> str:
        """Return it as a clause for a message."""
        return f"{self.sni} at {self.address} port {self.port}: {self.seen()}"


def shows(looks: tuple[Look, ...], leaf_sha256: str) -> bool:
    """Tell whether each of them, one at least, shows this leaf."""
    return bool(looks) and all(each.leaf_sha256 == leaf_sha256 for each in looks)
