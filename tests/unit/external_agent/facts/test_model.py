"""The table of an attempt's moves, generations' numbers, names wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_agent.facts.generation import is_believable, next_generation
from external_agent.facts.policy import certificate_id, wanted_names
from external_agent.records.model import MOVES, UNFINISHED, AttemptState, may_move
from shared.contract.errors import PolicyError


def test_every_state_is_reached_and_every_unfinished_one_may_end() -> None:
    reached = {AttemptState.PREPARED} | {after for moves in MOVES.values() for after in moves}
    assert reached == set(AttemptState) == set(MOVES)
    for state in UNFINISHED:
        assert may_move(state, AttemptState.FAILED)
        assert may_move(state, AttemptState.ABANDONED)
    assert [s for s in AttemptState if may_move(s, AttemptState.ISSUED)] == [AttemptState.CERTIFIED]


def test_an_order_is_never_replaced() -> None:
    for state in (AttemptState.FINALIZING, AttemptState.CERTIFIED, AttemptState.ISSUED):
        assert not may_move(state, AttemptState.ORDERED)
        assert not may_move(state, AttemptState.PREPARED)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_generations_grow(now: int, known: int) -> None:
    assert next_generation(now, known) > known
    assert next_generation(now, known) >= now


@given(st.integers(0, 2**40))
def test_a_lie_moves_us_an_hour_at_most(now: int) -> None:
    assert is_believable(now + 3600, now)
    assert not is_believable(now + 3601, now)
    assert not is_believable(-1, now)
    assert not is_believable(2**63, now)


def test_wildcards_need_a_dns_challenge() -> None:
    with pytest.raises(PolicyError, match="http-01"):
        wanted_names(["*.intra.example.com"], "http-01")
    assert wanted_names(["*.intra.example.com"], "dns-01") == ("*.intra.example.com",)
    with pytest.raises(PolicyError, match="challenge type"):
        wanted_names(["www.intra.example.com"], "tls-alpn-01")


def test_ids_are_safe_paths() -> None:
    names = wanted_names(["*.intra.example.com"], "dns-01")
    assert certificate_id(names, [], None) == "_wildcard.intra.example.com"
    assert certificate_id(names, ["*.intra.example.com"], "mail-1") == "mail-1"
    with pytest.raises(PolicyError):
        certificate_id(names, [], "../etc")
