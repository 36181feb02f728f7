"""Whether a certificate is served, by what a puller said: yes, no, or not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from external_agent.records.direct_rows import DirectRow
from external_agent.records.rows import ServedRow
from shared.contract.errors import (
    AnotherServer,
    CannotBeSeen,
    InstallError,
    NotRunning,
    NotTakenUp,
    SeenBefore,
)

_NO: Final = frozenset({NotTakenUp.type, NotRunning.type})
_NOT_KNOWN: Final = frozenset({CannotBeSeen.type, AnotherServer.type, SeenBefore.type})
"""What was seen there, if anything, is not this server's, or not all of it was seen."""


def is_served(
    served: Iterable[ServedRow], leaf_sha256: str | None, outcome: str, error: str
) -> bool | None:
    """Tell whether a leaf is served everywhere, by the last receipt or report of a machine.

    Args:
        served: what it saw.
        outcome, error: what it said of its installation (docs/FORMAT.md section 8).
    """
    if outcome == "installed" and error in _NO:
        return False
    leaves = {one.leaf_sha256 for one in served}
    if not leaves or leaf_sha256 is None or (outcome == "installed" and error in _NOT_KNOWN):
        return None
    if leaves != {leaf_sha256}:
        return False
    # Whatever went wrong there, the machine did not see the new one served.
    return None if is_of_installing(error) else True


def is_of_installing(error: str) -> bool:
    """Tell whether a receipt's error is a verdict on a generation at its server."""
    return error.split("/", 1)[0] == InstallError.type


def is_direct_served(row: DirectRow) -> bool | None:
    """The same of a certificate that a puller gets by itself."""
    return is_served(row.served, row.leaf_sha256, row.outcome, row.error)
