"""When renewals are due, and how pauses grow."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from external_agent.domain.renewal import (
    DAY,
    HOUR,
    come_back,
    due_at,
    renewal_moment,
)
from shared.errors import (
    ClockWrong,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
)
from shared.renewal import LONGEST_PAUSE, LONGEST_RETRY_AFTER, pause_after

LIFETIMES = st.integers(160 * HOUR, 398 * DAY)
BEGINNINGS = st.integers(1_600_000_000, 4_000_000_000)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz.-", min_size=1, max_size=40)
GENERATIONS = st.integers(1, 2**53 - 1)


@given(BEGINNINGS, LIFETIMES)
def test_a_third_is_left_or_half_of_a_short_one(begin: int, lifetime: int) -> None:
    left = (begin + lifetime - renewal_moment(begin, begin + lifetime)) / lifetime
    assert abs(left - (1 / 2 if lifetime < 10 * DAY else 1 / 3)) < 1e-6


@given(BEGINNINGS, LIFETIMES, NAMES, GENERATIONS)
def test_due_lies_just_before_its_share(
    begin: int, lifetime: int, name: str, generation: int
) -> None:
    end = begin + lifetime
    due = due_at(begin, end, name, generation, begin)
    moment = renewal_moment(begin, end)
    assert moment - 0.02 * lifetime - 1 <= due <= moment
    assert due == due_at(begin, end, name, generation, begin)


@given(BEGINNINGS, LIFETIMES, NAMES, GENERATIONS, st.floats(0, 1))
def test_what_was_just_issued_is_never_due_at_once(
    begin: int, lifetime: int, name: str, generation: int, passed: float
) -> None:
    now = begin + int(lifetime * passed)
    due = due_at(begin, begin + lifetime, name, generation, now)
    assert due >= now + 60
    assert due >= now + (begin + lifetime - now) // 4


def test_spread_over_certificates_and_generations() -> None:
    moments = {due_at(0, 90 * DAY, f"host{n}.example.com", 7, 0) for n in range(200)}
    assert len(moments) > 190
    assert max(moments) - min(moments) > 0.015 * 90 * DAY


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
