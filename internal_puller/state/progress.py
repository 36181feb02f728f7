"""How things stand: for ``status``, for the next run, and for receipts still to be delivered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

LONGEST_PAUSE = 3600.0
"""Seconds that receipts wait at most before the agent is tried again."""


@dataclass(slots=True)
class LastError:
    """
    Attributes:
        type: ``RelayError.type``.
        what: its sentence.
        at: unix seconds.
    """

    type: str
    what: str
    at: int


@dataclass(slots=True)
class Standing:
    """What is in place in a target's directory and was not seen to be served yet.

    Attributes:
        verdict: ``Verdict`` of the last look, one of ``LOOKED_AT_AGAIN`` or ``BACK_UNSEEN``.
        since: unix seconds since when it was not once seen to be served.
        again_at: unix seconds; not looked at again before.
        what: the error's sentence.
        pause: seconds from the last look to ``again_at``; the next one is longer.
    """

    verdict: str
    since: int
    again_at: int
    what: str
    pause: int = 0


@dataclass(slots=True)
class CertificateProgress:
    """
    Attributes:
        offered: the newest generation that the agent has for us; 0 is none.
        key_origin: ``agent`` or ``puller``: who makes the key of the next generation.
        csr_wanted: the agent waits for a CSR of ours.
        csr_error: why the last CSR was not taken, in words; empty when it was.
        lifetime: seconds that the newest accepted certificate lives from end to end; 0: unknown.
        served: what the last look saw, by ``address port sni``: a leaf's digest, or ``Answer``.
        reported: the newest installed generation of which a receipt was written.
        receipt: encoded receipt or report that the agent has not confirmed yet.
        direct: it is a report of a certificate that this machine gets by itself.
        error: the last failure, until the next success.
        fault: generation and type of the failure that a receipt told last; empty when what was
            offered is in place since.
        target: ``none`` yet, ``here``, or ``removed`` since.
        withdrawn_at: unix seconds since when the agent does not offer what has a target here; 0:
            it does.
    """

    offered: int = 0
    key_origin: str = "agent"
    csr_wanted: bool = False
    csr_error: str = ""
    lifetime: int = 0
    served: dict[str, str] = field(default_factory=dict)
    reported: int = 0
    receipt: str | None = None
    direct: bool = False
    error: LastError | None = None
    fault: str = ""
    target: str = "none"
    withdrawn_at: int = 0

    def has_told_of(self, generation: int) -> bool:
        """Tell whether a receipt was written of why a generation is not in place."""
        return self.fault.partition(" ")[0] == str(generation)


@dataclass(slots=True)
class Progress:
    """
    Attributes:
        version: of the last list of certificates.
        come_back_at: unix seconds; when the agent expects something new.
        last_contact: unix seconds of the last answer signed by the agent.
        clock_difference: seconds by which the agent's clock is ahead of ours.
        tls_check: how the relay's TLS certificate was accepted last: ``pin``, ``roots``, ``none``.
        error: the last failure to reach the agent, until the next success.
        reports_paused_until: unix seconds; no receipt is sent before, and all else is done.
        shapes: ``Target.shape`` that the files in place were written for, by directory.
        standing: what is in place and was not seen to be served yet, by directory; it goes with
            its target.
    """

    version: str = ""
    come_back_at: int = 0
    last_contact: int = 0
    clock_difference: int = 0
    tls_check: str = ""
    error: LastError | None = None
    certificates: dict[str, CertificateProgress] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)
    reports_paused_until: int = 0

    @property
    def reports_waiting(self) -> int:
        """How many receipts and reports the agent has not confirmed yet."""
        return sum(one.receipt is not None for one in self.certificates.values())

    def reports_due(self, now: float) -> bool:
        """Whether a receipt waits, and the agent has not asked us to wait with it.

        A pause that a clock set back made longer than any is void.
        """
        paused = 0 < self.reports_paused_until - now <= LONGEST_PAUSE
        return bool(self.reports_waiting) and not paused

    def of(self, certificate: str) -> CertificateProgress:
        return self.certificates.setdefault(certificate, CertificateProgress())

    def encode(self) -> bytes:
        return json.dumps(self, default=_members, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """Read it back; what does not fit (another release, damage) is as if there were nothing."""
        try:
            values: dict[str, Any] = json.loads(data)
            certificates = {
                name: CertificateProgress(**entry | {"error": _error(entry.get("error"))})
                for name, entry in values.pop("certificates").items()
            }
            error = _error(values.pop("error"))
            standing = {
                directory: Standing(**entry) for directory, entry in values.pop("standing").items()
            }
            return cls(**values, error=error, certificates=certificates, standing=standing)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()


def _members(one: object) -> dict[str, object]:
    """Not ``dataclasses.asdict``, which copies every text of a thousand certificates."""
    return {name: getattr(one, name) for name in getattr(type(one), "__slots__", ())}


def _error(value: dict[str, Any] | None) -> LastError | None:
    return None if value is None else LastError(**value)
