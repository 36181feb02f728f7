"""What each verdict means to others: outcome, error, exit code, and what is done next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from internal_puller.outbox.verdict import (
    BACK,
    ERRORS,
    KEPT_ERRORS,
    LOOKED_AT_AGAIN,
    NOT_SERVED,
    RELOADED_AGAIN,
    Verdict,
    outcome_of,
)
from shared.contract.wire import RECEIPT_ERRORS

FORMAT = Path(__file__).parents[4] / "docs/FORMAT.md"
_ROW = re.compile(r"\| `(install/[a-z-]+)` \| `(installed|rolled_back)` \| [^|]+ \| ([^|]+) \|")
ROWS = {error: (outcome, served) for error, outcome, served in _ROW.findall(FORMAT.read_text())}


@pytest.mark.parametrize("verdict", [one for one, kind in ERRORS.items() if kind is not None])
def test_each_error_stands_in_the_format_with_its_outcome(verdict: Verdict) -> None:
    kind = ERRORS[verdict]
    assert kind is not None
    assert kind.type in RECEIPT_ERRORS
    outcome, served = ROWS[kind.type]
    assert outcome == outcome_of(verdict)
    assert (served == "no") is (verdict in BACK | NOT_SERVED)


def test_the_format_names_no_other() -> None:
    assert len(ROWS) == sum(kind is not None for kind in ERRORS.values())
    kinds = [kind for kind in ERRORS.values() if kind is not None]
    assert len({kind.type for kind in kinds}) == len(kinds), "a receipt tells each from the others"


def test_what_is_good_what_is_looked_at_again_and_what_went_back_are_all() -> None:
    good = {one for one, kind in ERRORS.items() if kind is None}
    assert set(ERRORS) == set(Verdict)
    assert good == {Verdict.SERVED, Verdict.IN_PLACE}
    assert good | LOOKED_AT_AGAIN | BACK == set(Verdict)
    assert not LOOKED_AT_AGAIN & BACK
    assert RELOADED_AGAIN <= LOOKED_AT_AGAIN
    assert len(KEPT_ERRORS) == len(LOOKED_AT_AGAIN)


def test_only_what_could_not_be_seen_after_going_back_is_exit_12() -> None:
    codes = {one: kind.exit_code for one, kind in ERRORS.items() if kind is not None}
    assert {one for one, code in codes.items() if code == 12} == {Verdict.BACK_UNSEEN}
    assert set(codes.values()) == {9, 12}
