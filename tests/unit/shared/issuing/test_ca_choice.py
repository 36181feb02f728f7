"""Which CA is asked next: every class of failure, and whose pause holds up whom."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contract.errors import (
    CaNotConfigured,
    ClockWrong,
    ConfigurationError,
    DnsFailure,
    DnsUnavailable,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    OrderGone,
    PolicyError,
    RelayError,
    ValidationFailed,
)
from shared.issuing.ca_choice import (
    PATIENCE,
    Setback,
    Standing,
    after_failure,
    gives_way,
    in_turn,
    paused_until,
    without_own_pauses,
)
from shared.issuing.renewal import DAY, HOUR, Life

NOW = 1_800_000_000
LIFE = Life(NOW - 60 * DAY, NOW + 30 * DAY, NOW - 60 * DAY)
A, B, C = (f"https://{one}.example.net/dir" for one in "abc")


def problem(code: str, *below: str) -> dict[str, Any]:
    return {
        "type": f"urn:ietf:params:acme:error:{code}",
        "status": 403,
        "subproblems": [problem(one) for one in below],
    }


def rejected(code: str, *below: str) -> IssuanceRejected:
    return IssuanceRejected("No.", problem=problem(code, *below))


def invalid(code: str, *below: str) -> ValidationFailed:
    return ValidationFailed("No.", problem=problem(code, *below))


def says(error: RelayError, *, failures: int = 1, life: Life | None = LIFE) -> bool:
    return gives_way(error, failures=failures, life=life, now=NOW)


@pytest.mark.parametrize(
    "error",
    [
        CaNotConfigured("No binding."),
        rejected("rejectedIdentifier"),
        rejected("unsupportedIdentifier"),
        rejected("externalAccountRequired"),
        rejected("userActionRequired"),
        rejected("unauthorized"),
        rejected("malformed"),
        rejected("caa"),
        rejected("malformed", "rejectedIdentifier"),
        invalid("caa"),
        invalid("unauthorized", "caa"),
        IssuanceRejected("The CA offers dns-01 for it; this machine can answer http-01."),
    ],
)
def test_another_ca_may_succeed(error: RelayError) -> None:
    assert says(error)


@pytest.mark.parametrize(
    "error",
    [
        invalid("connection"),
        invalid("dns"),
        invalid("incorrectResponse"),
        invalid("unauthorized"),
        invalid("tls"),
        ValidationFailed("The CNAMEs do not end."),
        rejected("badCSR"),
        rejected("badPublicKey"),
        rejected("accountDoesNotExist"),
        OrderGone("Gone.", problem=problem("malformed")),
        DnsFailure("No record."),
        DnsUnavailable("No zone."),
        ConfigurationError("No way to write DNS records."),
        ClockWrong("Late."),
        PolicyError("No."),
        RelayError("Unexpected."),
    ],
)
def test_every_ca_would_say_so(error: RelayError) -> None:
    assert not says(error, failures=99)


@pytest.mark.parametrize("kind", [IssuanceUnavailable, IssuanceUnfinished])
def test_patience_with_a_ca_that_is_away(kind: type[RelayError]) -> None:
    assert not says(kind("Away."), failures=PATIENCE - 1)
    assert says(kind("Away."), failures=PATIENCE)


@pytest.mark.parametrize(
    ("retry_after", "life", "failures", "gives"),
    [
        (HOUR, LIFE, 1, False),
        (6 * DAY, LIFE, 1, False),
        (6 * DAY, Life(NOW - 80 * DAY, NOW + 10 * DAY, NOW - 80 * DAY), 1, True),
        (HOUR, Life(NOW - 90 * DAY, NOW - 1, NOW - 90 * DAY), 1, True),
        (HOUR, None, 1, True),
        (None, None, 1, True),
        (None, LIFE, 1, False),
        (None, LIFE, PATIENCE, True),
    ],
)
def test_rate_limits(
    retry_after: float | None, life: Life | None, failures: int, gives: bool
) -> None:
    error = IssuanceRateLimited("Slowly.", retry_after=retry_after)
    assert says(error, life=life, failures=failures) is gives


def paused(url: str, until: int, **more: Any) -> Standing:
    return Standing(url, paused_at=NOW - 9, paused_until=until, **more)


def test_the_first_that_may_be_asked() -> None:
    held = {A: paused(A, NOW + 100)}
    assert in_turn([A, B], {}, NOW) == A
    assert in_turn([A, B], held, NOW) == B
    assert in_turn([A, B], held, NOW + 100) == A
    assert in_turn([A, B], held | {B: paused(B, NOW + 50)}, NOW) == B
    assert paused_until([A, B], held, NOW) == 0
    assert paused_until([A, B], held | {B: paused(B, NOW + 50)}, NOW) == NOW + 50
    ahead = {A: Standing(A, paused_at=NOW + DAY, paused_until=NOW + 2 * DAY)}
    assert in_turn([A, B], ahead, NOW) == A, "written by a clock that was set back since"


def fail(error: RelayError, standings: dict[str, Standing] | None = None, url: str = A) -> Setback:
    return after_failure(
        [A, B, C], standings or {}, url, error, certificate="www", life=LIFE, now=NOW
    )


def test_what_another_ca_may_not_have_leaves_only_this_one_alone() -> None:
    found = fail(rejected("rejectedIdentifier"))
    assert (found.gives_way, found.turn, found.paused_until) == (True, B, 0)
    assert NOW + 200 < found.standing.paused_until <= NOW + 301
    assert (found.standing.failures, found.standing.why) == (1, "No.")
    again = fail(rejected("rejectedIdentifier"), {A: found.standing}, B)
    assert again.turn == C


def test_what_every_ca_would_have_leaves_them_all_alone() -> None:
    found = fail(invalid("connection"))
    assert (found.gives_way, found.turn) == (False, A)
    assert found.paused_until == found.standing.paused_until > NOW + 200


def test_with_every_ca_paused_the_first_to_be_free_is_waited_for() -> None:
    known = {A: paused(A, NOW + DAY), C: paused(C, NOW + HOUR)}
    asked = IssuanceRateLimited("Slowly.", retry_after=6 * DAY)
    found = after_failure([A, B, C], known, B, asked, certificate="www", life=None, now=NOW)
    assert (found.turn, found.paused_until) == (C, NOW + HOUR)
    assert found.standing.asked_until == NOW + 6 * DAY


def test_only_what_a_ca_asked_for_survives() -> None:
    limited = IssuanceRateLimited.type
    known = {
        A: paused(A, NOW + DAY, asked_until=NOW + HOUR, failures=4),
        B: paused(B, NOW + DAY, failures=4),
        C: paused(C, NOW + DAY, why_type=limited, failures=4),
    }
    kept = without_own_pauses(known, NOW)
    assert {url: one.paused_until for url, one in kept.items()} == {A: NOW + HOUR, C: NOW + DAY}
    assert {one.failures for one in kept.values()} == {0}
    assert without_own_pauses(known, NOW + DAY) == {}
