"""At boot, before the servers: links are brought to a consistent state, without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.sifting import sift_servers
from shared.contract.errors import RelayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.install.steps import Steps
    from internal_puller.outbox.outcome import Outcome


class _OutOfTime(Exception):
    """No test is begun any more."""


def recover(steps: Steps, has_time: Callable[[], bool]) -> list[Outcome]:
    """Let links follow the note of ``steps``, and have its servers' test say which go back.

    Nothing is reloaded or started, and the note stays: the judge has the last word.

    Args:
        has_time: asked before each test.
    """
    tests = 0

    def allow() -> None:
        nonlocal tests
        if not has_time():
            raise _OutOfTime
        tests += 1

    try:
        steps.put_all()
        sift_servers(steps, allow)
    except _OutOfTime:
        if tests:  # not all new: the test refuses that
            _put_renewals_back(steps)
    except RelayError as fault:
        return [one.outcome(fault) for one in steps.members]
    return [one.outcome(None) for one in steps.members]


def _put_renewals_back(steps: Steps) -> None:
    """Without a verdict: there was no time to find out. A first one may be needed to start."""
    for one in steps.members:
        if one.verdict is None:
            one.put(one.previous or one.to)
