"""What a list of certificates asks for, decided from facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internal_puller.install.layout import SetAside
from internal_puller.pull.plan import InPlace, Plan, make_plan
from internal_puller.settings.targets import Target
from internal_puller.state.floor import Floor
from shared.contract.wire import Offer

A = Target("a.example.org", ("a.example.org",), Path("/nonexistent/a"))
FAILED = SetAside("install/reload-failed", "It failed.", 1)
BY_HAND = SetAside("operator/rolled-back", "By hand.", 1)


def offer(generation: int, certificate: str = "a.example.org") -> Offer:
    return Offer(certificate, (certificate,), generation, 0, "agent", False)


def plan(*offers: Offer, floor: int = 0, places: Any = None, **more: Any) -> Plan:
    floors = {"a.example.org": Floor(floor, "0" * 64)} if floor else {}
    here = [InPlace(A, None, {})] if places is None else places
    return make_plan(offers, floors, here, **{"reported": {"a.example.org": 5}, "now": 2} | more)


def test_first() -> None:
    [work] = plan(offer(5)).work
    assert (work.generation, work.after) == (5, 0)


def test_nothing_issued() -> None:
    assert not plan(offer(0)).asks_for_something


def test_newer() -> None:
    [work] = plan(offer(7), floor=5, places=[InPlace(A, 5, {})]).work
    assert (work.generation, work.after) == (7, 5)


def test_in_place() -> None:
    assert not plan(offer(5), floor=5, places=[InPlace(A, 5, {})]).asks_for_something


def test_accepted_but_not_in_place_is_fetched_again() -> None:
    [work] = plan(offer(5), floor=5, places=[InPlace(A, 3, {})]).work
    assert (work.generation, work.after) == (5, 4)


def test_agent_behind() -> None:
    found = plan(offer(4), floor=5, places=[InPlace(A, 5, {})])
    assert (found.work, dict(found.behind)) == ((), {"a.example.org": 5})
    assert dict(plan(offer(0), floor=5).behind) == {"a.example.org": 5}


def test_set_aside_is_left_unless_asked_for() -> None:
    places = [InPlace(A, 3, {5: FAILED})]
    found = plan(offer(5), floor=5, places=places)
    assert (found.work, found.failed) == ((), (("a.example.org", 5, FAILED),))
    assert len(plan(offer(5), floor=5, places=places, retry=True).work) == 1
    assert len(plan(offer(6), floor=5, places=places).work) == 1


def test_set_aside_is_tried_again_after_a_day() -> None:
    places = [InPlace(A, 3, {5: FAILED})]
    assert not plan(offer(5), floor=5, places=places, now=86400).work
    [work] = plan(offer(5), floor=5, places=places, now=86401).work
    assert work.again
    # A mark from the future comes from a clock that was wrong: it does not hold for ever.
    assert plan(offer(5), floor=5, places=places, now=0).work
    by_hand = [InPlace(A, 3, {5: BY_HAND})]
    assert not plan(offer(5), floor=5, places=by_hand, now=10**9).work


def test_rolled_back_by_hand_is_no_failure() -> None:
    found = plan(offer(5), floor=5, places=[InPlace(A, 3, {5: BY_HAND})])
    assert (found.work, found.failed) == ((), ())


def test_deferred() -> None:
    found = plan(offer(5), deferred=lambda certificate, generation: generation == 5)
    assert found.work == ()


def test_only_the_targets_that_lack_it() -> None:
    other = Target("a.example.org", ("a.example.org",), Path("/nonexistent/b"))
    [work] = plan(offer(5), floor=5, places=[InPlace(A, 5, {}), InPlace(other, None, {})]).work
    assert work.targets == (other,)


def test_granted_without_target_and_target_without_grant() -> None:
    found = plan(offer(5, "b.example.org"))
    assert (found.work, found.not_granted) == ((), ("a.example.org",))


def test_unreported() -> None:
    found = plan(offer(5), floor=5, places=[InPlace(A, 5, {})], reported={})
    assert found.unreported == (A,)
