"""Which CA is asked next, and when: never one that is left alone (the rules: test_ca_choice)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.contract.errors import (
    DnsFailure,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    RelayError,
    ValidationFailed,
)
from shared.issuing.next_ca import (
    ANY_TIMES,
    Trouble,
    after_failure,
)
from shared.issuing.renewal import DAY

A, B, C = "https://a.example/dir", "https://b.example/dir", "https://c.example/dir"
NOW = 1_800_000_000
ACME = "urn:ietf:params:acme:error:"


def rejected(code: str) -> IssuanceRejected:
    kind = ValidationFailed if code in ("dns", "connection") else IssuanceRejected
    return kind("No.", problem={"type": ACME + code})


def test_a_certificate_with_one_ca_stays_there() -> None:
    course = after_failure([A], A, {}, rejected("caa"), now=NOW, pause=300, life=None)
    assert (course.directory_url, course.paused_until) == (A, NOW + 300)
    assert course.troubles[A].failures == 1


def test_the_next_one_is_asked_at_once_and_the_first_comes_again() -> None:
    first = after_failure([A, B, C], A, {}, rejected("caa"), now=NOW, pause=300, life=None)
    assert (first.directory_url, first.paused_until) == (B, NOW)
    second = after_failure(
        [A, B, C], B, first.troubles, rejected("caa"), now=NOW + 10, pause=300, life=None
    )
    assert (second.directory_url, second.paused_until) == (C, NOW + 10)
    third = after_failure(
        [A, B, C], C, second.troubles, rejected("caa"), now=NOW + 20, pause=300, life=None
    )
    assert (third.directory_url, third.paused_until) == (A, NOW + 300)


def test_after_six_failures_of_whatever_kind_another_one_is_asked() -> None:
    course = after_failure([A, B], A, {}, rejected("dns"), now=NOW, pause=1, life=None)
    for _ in range(ANY_TIMES - 2):
        assert course.directory_url == A
        course = after_failure(
            [A, B], A, course.troubles, rejected("dns"), now=NOW, pause=1, life=None
        )
    assert course.directory_url == A
    course = after_failure([A, B], A, course.troubles, rejected("dns"), now=NOW, pause=1, life=None)
    assert course.directory_url == B


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
        course = after_failure([A, B, C], current, troubles, error, now=now, pause=pause, life=None)
        assert course.paused_until >= now
        known = course.troubles.get(course.directory_url)
        assert known is None or known.until <= course.paused_until
        now = course.paused_until + later
        current, troubles = course.directory_url, dict(course.troubles)
