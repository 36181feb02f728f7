"""Which CA is asked next: by class of failure, by what a rate limit leaves, never in a circle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_agent.domain.fallback import (
    ANY_TIMES,
    UNAVAILABLE_TIMES,
    Trouble,
    after_failure,
    is_reason_to_leave,
)
from shared.errors import (
    ClockWrong,
    ConfigurationError,
    DnsFailure,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    OrderGone,
    RelayError,
)
from shared.renewal import DAY

A, B, C = "https://a.example/dir", "https://b.example/dir", "https://c.example/dir"
NOW = 1_800_000_000
ACME = "urn:ietf:params:acme:error:"


def rejected(code: str) -> IssuanceRejected:
    return IssuanceRejected("No.", problem={"type": ACME + code})


@pytest.mark.parametrize(
    ("error", "leaves"),
    [
        (rejected("caa"), True),
        (rejected("rejectedIdentifier"), True),
        (rejected("externalAccountRequired"), True),
        (rejected("userActionRequired"), True),
        (IssuanceRejected("The CA offers no challenge of ours."), True),
        (ConfigurationError("The CA wants a binding."), True),
        (rejected("connection"), False),
        (rejected("dns"), False),
        (rejected("unauthorized"), False),
        (rejected("badCSR"), False),
        (OrderGone("Gone."), False),
        (ClockWrong("Wrong."), False),
        (DnsFailure("Our DNS."), False),
        (IssuanceUnfinished("Still at it."), False),
        (IssuanceUnavailable("Away."), False),
    ],
)
def test_the_first_failure(error: RelayError, leaves: bool) -> None:
    assert is_reason_to_leave(error, 1, now=NOW, end=NOW + 30 * DAY) is leaves
    assert is_reason_to_leave(error, ANY_TIMES, now=NOW, end=NOW + 30 * DAY)


def test_a_ca_that_does_not_answer_is_left_after_some_times() -> None:
    away = IssuanceUnavailable("Away.")
    for failures in range(1, ANY_TIMES):
        left = is_reason_to_leave(away, failures, now=NOW, end=NOW + 30 * DAY)
        assert left is (failures >= UNAVAILABLE_TIMES)


@pytest.mark.parametrize(
    ("retry_after", "end", "leaves"),
    [
        (3 * DAY, NOW + 30 * DAY, False),
        (6 * DAY, NOW + 6 * DAY, True),
        (3600, NOW + DAY // 2, True),
        (3600, 0, True),
        (None, NOW + 2 * DAY, False),
    ],
)
def test_a_rate_limit_against_the_time_that_is_left(
    retry_after: float | None, end: int, leaves: bool
) -> None:
    error = IssuanceRateLimited("Too many.", retry_after=retry_after)
    assert is_reason_to_leave(error, 1, now=NOW, end=end) is leaves


def test_a_certificate_with_one_ca_stays_there() -> None:
    course = after_failure([A], A, {}, rejected("caa"), now=NOW, pause=300, end=0)
    assert (course.directory_url, course.paused_until) == (A, NOW + 300)
    assert course.troubles[A].failures == 1


def test_the_next_one_is_asked_at_once_and_the_first_comes_again() -> None:
    first = after_failure([A, B, C], A, {}, rejected("caa"), now=NOW, pause=300, end=0)
    assert (first.directory_url, first.paused_until) == (B, NOW)
    second = after_failure(
        [A, B, C], B, first.troubles, rejected("caa"), now=NOW + 10, pause=300, end=0
    )
    assert (second.directory_url, second.paused_until) == (C, NOW + 10)
    third = after_failure(
        [A, B, C], C, second.troubles, rejected("caa"), now=NOW + 20, pause=300, end=0
    )
    assert (third.directory_url, third.paused_until) == (A, NOW + 300)


ERRORS = st.sampled_from(
    [
        rejected("caa"),
        rejected("connection"),
        IssuanceUnavailable("Away."),
        IssuanceRateLimited("Too many.", retry_after=7200),
        DnsFailure("Ours."),
    ]
)


@given(st.lists(st.tuples(ERRORS, st.integers(1, DAY), st.integers(0, DAY)), max_size=30))
def test_no_ca_is_asked_while_it_is_left_alone(steps: list[tuple[RelayError, int, int]]) -> None:
    now, current, troubles = NOW, A, dict[str, Trouble]()
    for error, pause, later in steps:
        course = after_failure([A, B, C], current, troubles, error, now=now, pause=pause, end=0)
        assert course.paused_until >= now
        known = course.troubles.get(course.directory_url)
        assert known is None or known.until <= course.paused_until
        now = course.paused_until + later
        current, troubles = course.directory_url, dict(course.troubles)
