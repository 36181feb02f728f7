"""What became of a new certificate at one target, and what each verdict means to others.

Only the standard library and the errors: the quiet path of ``pull`` may come here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from shared.contract.errors import (
    AnotherServer,
    CannotBeSeen,
    ConfigTestFailed,
    ConfigurationBrokenBefore,
    NotCausedByCertificate,
    NotRunning,
    NotTakenUp,
    ReloadFailed,
    RollbackFailed,
    SeenBefore,
    ServedMismatch,
    ServerDied,
    WorseAndKept,
)

if TYPE_CHECKING:
    from shared.contract.errors import InstallError


class Verdict(StrEnum):
    """Of one generation at one target."""

    # kept: the new files are in place
    SERVED = "served"
    IN_PLACE = "in-place"
    """Nothing is looked at there."""
    NOT_TAKEN_UP = "not-taken-up"
    ANOTHER_SERVER = "another-server"
    SEEN_BEFORE = "seen-before"
    CANNOT_BE_SEEN = "cannot-be-seen"
    NOT_RUNNING = "not-running"
    RELOAD_FAILED = "reload-failed"
    BROKEN_BEFORE = "broken-before"
    """The configuration is refused with the old files, too."""
    NOT_CAUSED = "not-caused"
    """What got worse did not get better by going back."""
    WORSE_AND_KEPT = "worse-and-kept"
    """The one before has expired, or nearly."""

    # back: what was in place before is in place
    BACK_BY_TEST = "back-by-test"
    BACK_BY_LEAF = "back-by-leaf"
    BACK_BY_DEATH = "back-by-death"
    BACK_UNSEEN = "back-unseen"
    """Back, and what was seen before could not be seen again: the one that wants a person."""


BACK: Final = frozenset(
    {Verdict.BACK_BY_TEST, Verdict.BACK_BY_LEAF, Verdict.BACK_BY_DEATH, Verdict.BACK_UNSEEN}
)
"""The new files are not in place."""

LOOKED_AT_AGAIN: Final = frozenset(
    {
        Verdict.NOT_TAKEN_UP,
        Verdict.CANNOT_BE_SEEN,
        Verdict.ANOTHER_SERVER,
        Verdict.SEEN_BEFORE,
        Verdict.NOT_RUNNING,
        Verdict.RELOAD_FAILED,
        Verdict.BROKEN_BEFORE,
        Verdict.NOT_CAUSED,
        Verdict.WORSE_AND_KEPT,
    }
)
"""Kept, and not seen to be served: ``pull`` and ``run`` look again, with growing pauses."""

RELOADED_AGAIN: Final = frozenset(
    {Verdict.NOT_TAKEN_UP, Verdict.RELOAD_FAILED, Verdict.BROKEN_BEFORE}
)
"""Looking again begins with another test and reload."""

NOT_SERVED: Final = frozenset({Verdict.NOT_TAKEN_UP, Verdict.NOT_RUNNING})
"""Of those kept: it is known that the server does not serve it; of the others what is seen tells,
or nothing does."""

ERRORS: Final[dict[Verdict, type[InstallError] | None]] = {
    Verdict.SERVED: None,
    Verdict.IN_PLACE: None,
    Verdict.NOT_TAKEN_UP: NotTakenUp,
    Verdict.ANOTHER_SERVER: AnotherServer,
    Verdict.SEEN_BEFORE: SeenBefore,
    Verdict.CANNOT_BE_SEEN: CannotBeSeen,
    Verdict.NOT_RUNNING: NotRunning,
    Verdict.RELOAD_FAILED: ReloadFailed,
    Verdict.BROKEN_BEFORE: ConfigurationBrokenBefore,
    Verdict.NOT_CAUSED: NotCausedByCertificate,
    Verdict.WORSE_AND_KEPT: WorseAndKept,
    Verdict.BACK_BY_TEST: ConfigTestFailed,
    Verdict.BACK_BY_LEAF: ServedMismatch,
    Verdict.BACK_BY_DEATH: ServerDied,
    Verdict.BACK_UNSEEN: RollbackFailed,
}
"""Words, the receipt's error and the exit code of each; ``None`` is good."""


KEPT_ERRORS: Final = frozenset(
    kind.type for one in LOOKED_AT_AGAIN if (kind := ERRORS[one]) is not None
)
"""Of these the new certificate is in place: neither has anything failed, nor is all well."""


def outcome_of(verdict: Verdict) -> str:
    """Return the receipt's word (docs/FORMAT.md section 8): what is in place decides."""
    return "rolled_back" if verdict in BACK else "installed"
