"""How pauses grow, and when pullers come back."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from external_agent.facts.renewal import come_back
from shared.contract.errors import (
    ClockWrong,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
)
from shared.issuing.renewal import DAY, HOUR, LONGEST_PAUSE, LONGEST_RETRY_AFTER, pause_after

NAMES = st.text("abcdefghijklmnopqrstuvwxyz.-", min_size=1, max_size=40)


@given(NAMES)
def test_pauses_grow_to_a_day(name: str) -> None:
    for error in (IssuanceUnavailable("x"), IssuanceRejected("x"), ClockWrong("x")):
        pauses = [pause_after(error, n, name) for n in range(1, 30)]
        assert all(after > before for before, after in itertools.pairwise(pauses[:8]))
        assert max(pauses) <= LONGEST_PAUSE + 1
        assert pauses[-1] >= 0.9 * LONGEST_PAUSE
        assert pauses[0] >= 50


@given(NAMES)
def test_at_most_five_failed_authorizations_an_hour(name: str) -> None:
    elapsed, attempts = 0, 0
    while elapsed < HOUR:
        attempts += 1
        elapsed += pause_after(IssuanceRejected("no"), attempts, name)
    assert attempts <= 5


@given(NAMES, st.integers(1, 40), st.floats(1, 30 * DAY))
def test_retry_after_is_kept(name: str, failures: int, seconds: float) -> None:
    pause = pause_after(IssuanceRateLimited("slow", retry_after=seconds), failures, name)
    assert pause >= min(seconds, LONGEST_RETRY_AFTER)
    assert pause <= max(LONGEST_PAUSE, min(seconds, LONGEST_RETRY_AFTER) + 600) + 1


def test_a_gone_order_is_replaced_at_once_but_only_once() -> None:
    assert pause_after(OrderGone("gone"), 1, "x") == 0
    assert pause_after(OrderGone("gone"), 2, "x") > 400


@given(st.integers(0, 2**40), st.none() | st.integers(0, 2**40))
def test_come_back_is_between_a_minute_and_a_day(now: int, expected: int | None) -> None:
    assert 60 <= come_back(now, expected) <= DAY
