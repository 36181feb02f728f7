"""What came of one certificate at one target: one record from the judge to the receipt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from internal_puller.outbox.verdict import LOOKED_AT_AGAIN, Verdict, outcome_of
from shared.contract.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from internal_puller.outbox.look import Look
    from shared.contract.errors import RelayError

EXIT_EXPIRING: Final = 13  # shared.host.watching.NEEDS_ATTENTION; the lean path does not import it
WORST_FIRST: Final = (12, 9, 8, 1, 3, 4, 5, EXIT_EXPIRING, 11, 7, 6, 10)
"""A certificate here comes near its end; only codes that need a person sooner go before it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    Attributes:
        generation: what it is about; 0 where it is about none.
        verdict: the judge's; ``None`` where nothing came so far: refused, or a fault here.
        error: what went wrong, in words, with the receipt's type and the exit code.
        changed: whether this run changed what is in place, if only for a while.
        directory: of the target; empty where it is about none.
        active: the generation in place now; ``None`` for none.
        digest: manifest digest of ``generation``, hex; empty if not known.
        not_after: unix seconds, of ``generation``; 0 if not known.
        before, looks: what the probe points answered before anything was changed, and now.
    """

    certificate: str
    generation: int
    verdict: Verdict | None
    error: RelayError | None = None
    changed: bool = False
    directory: str = ""
    active: int | None = None
    digest: str = ""
    not_after: int = 0
    before: tuple[Look, ...] = ()
    looks: tuple[Look, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with after this."""
        return self.error.exit_code if self.error else 0

    @property
    def word(self) -> str:
        """The receipt's ``outcome`` (docs/FORMAT.md section 8)."""
        if self.verdict is not None:
            return outcome_of(self.verdict)
        return "refused" if isinstance(self.error, BundleError) else "failed"

    @property
    def is_looked_at_again(self) -> bool:
        """Whether it is in place and was not seen to be served, or went back and was not seen."""
        return self.verdict in LOOKED_AT_AGAIN or self.verdict is Verdict.BACK_UNSEEN

    def members(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return {
            "certificate": self.certificate,
            "generation": self.generation,
            "outcome": self.word,
            "verdict": self.verdict and str(self.verdict),
            "changed": self.changed,
            "directory": self.directory,
            "active": self.active,
            "not_after": self.not_after,
            "looks": [
                {
                    "address": look.address,
                    "port": look.port,
                    "sni": look.sni,
                    "answer": str(look.answer),
                    "leaf_sha256": look.leaf_sha256,
                    "why": look.why,
                }
                for look in self.looks
            ],
            "error": error_members(self.error),
        }


def error_members(error: RelayError | None) -> dict[str, str] | None:
    """Return an error for ``--json``."""
    if error is None:
        return None
    return {"type": error.type, "what": error.what, "do": error.do}


def worst_code(codes: Iterable[int]) -> int:
    """Return the exit code that wants a person soonest; 0 if none does."""
    return min((code for code in codes if code), key=_urgency, default=0)


def sum_up(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what is told of one certificate: the worst, and what was seen at all its targets.

    Args:
        outcomes: one at least; of several generations only the newest counts.
    """
    newest = max(one.generation for one in outcomes)
    mine = [one for one in outcomes if one.generation == newest]
    return replace(
        min(mine, key=_badness),
        changed=any(one.changed for one in mine),
        before=tuple(look for one in mine for look in one.before),
        looks=tuple(look for one in mine for look in one.looks),
    )


def _urgency(code: int) -> tuple[int, int]:
    known = code in WORST_FIRST
    return WORST_FIRST.index(code) if known else len(WORST_FIRST), -code


def _badness(outcome: Outcome) -> tuple[bool, tuple[int, int], bool]:
    """Of two errors that are as bad, the one that kept it from being in place is told."""
    return outcome.error is None, _urgency(outcome.exit_code), outcome.word == "installed"
