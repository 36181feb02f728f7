"""All breakages, in the order of the promises, and those that CI tries."""

from __future__ import annotations

from typing import Final

from tests.breakages import (
    of_input,
    of_installing,
    of_issuing,
    of_judging,
    of_limits,
    of_messages,
    of_operators,
    of_secrets,
    of_terminals,
)
from tests.breakages.model import Breakage
from tests.breakages.page import promises

_PARTS = (
    *(of_input, of_installing, of_judging, of_issuing, of_limits, of_messages),
    *(of_operators, of_secrets, of_terminals),
)
LEAST = 3
"""How many a promise has at least, if code of ours keeps it."""

WITHOUT_CODE: Final = {
    16: "nothing listens and nothing connects inward: there is no check to take out",
}

BREAKAGES: Final = tuple(
    sorted((one for part in _PARTS for one in part.BREAKAGES), key=lambda one: one.promise)
)


def sample() -> list[Breakage]:
    """Return the first breakage of each promise that a unit test notices: seconds for each."""
    chosen: dict[int, Breakage] = {}
    for one in BREAKAGES:
        noticed = [test for test in promises()[one.promise].tests if test.name == one.seen_by]
        if any(test.path.startswith("tests/unit/") for test in noticed):
            chosen.setdefault(one.promise, one)
    return list(chosen.values())
