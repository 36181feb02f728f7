"""Served: yes, no, or not known, by what a machine saw and what it said of it."""

from __future__ import annotations

import pytest

from external_agent.facts.serving import is_served
from external_agent.records.rows import ServedRow
from internal_puller.outbox.verdict import BACK, ERRORS, Verdict, outcome_of

NEW, OLD = "a1" * 32, "b2" * 32
BOTH = tuple(sorted((NEW, OLD)))


def rows(*leaves: str) -> tuple[ServedRow, ...]:
    return tuple(ServedRow(leaf, 1, None) for leaf in leaves)


def told(verdict: Verdict) -> tuple[str, str]:
    """Outcome and error of a receipt, as a puller writes them."""
    kind = ERRORS[verdict]
    return outcome_of(verdict), "none" if kind is None else kind.type


YES, NO, UNKNOWN = True, False, None
KEPT = [
    # verdict, and with: nothing seen, the new one everywhere, the old one, both
    (Verdict.SERVED, UNKNOWN, YES, NO, NO),
    (Verdict.IN_PLACE, UNKNOWN, YES, NO, NO),
    (Verdict.NOT_TAKEN_UP, NO, NO, NO, NO),
    (Verdict.NOT_RUNNING, NO, NO, NO, NO),
    (Verdict.ANOTHER_SERVER, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    (Verdict.SEEN_BEFORE, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    (Verdict.CANNOT_BE_SEEN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    (Verdict.RELOAD_FAILED, UNKNOWN, UNKNOWN, NO, NO),
    (Verdict.BROKEN_BEFORE, UNKNOWN, UNKNOWN, NO, NO),
    (Verdict.NOT_CAUSED, UNKNOWN, UNKNOWN, NO, NO),
    (Verdict.WORSE_AND_KEPT, UNKNOWN, UNKNOWN, NO, NO),
]


@pytest.mark.parametrize(("verdict", "nothing", "new", "old", "both"), KEPT)
def test_what_is_in_place(
    verdict: Verdict, nothing: bool | None, new: bool | None, old: bool | None, both: bool | None
) -> None:
    outcome, error = told(verdict)
    assert outcome == "installed"
    for seen, served in (((), nothing), ((NEW,), new), ((OLD,), old), (BOTH, both)):
        assert is_served(rows(*seen), NEW, outcome, error) is served


def test_each_verdict_that_keeps_is_above() -> None:
    assert {row[0] for row in KEPT} == set(Verdict) - BACK


@pytest.mark.parametrize("verdict", sorted(BACK))
def test_what_went_back_is_never_told_as_served(verdict: Verdict) -> None:
    outcome, error = told(verdict)
    assert outcome == "rolled_back"
    assert is_served(rows(OLD), NEW, outcome, error) is False
    for seen in ((), (NEW,)):
        assert is_served(rows(*seen), NEW, outcome, error) is None


def test_a_fault_before_anything_was_tried_leaves_what_is_seen() -> None:
    assert is_served(rows(NEW), NEW, "failed", "issuance/unavailable") is True
    assert is_served(rows(NEW), None, "installed", "none") is None
