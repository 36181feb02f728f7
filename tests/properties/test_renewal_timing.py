"""When renewals are due, for every lifetime, every window and every clock."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import assume, given
from hypothesis import strategies as st

from shared.acme.ports import RenewalWindow
from shared.contract.errors import (
    ClockWrong,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
)
from shared.issuing.renewal import (
    DAY,
    HOUR,
    MINUTE,
    SHORT_LIFETIME,
    Advice,
    Life,
    Reason,
    after_failed_look,
    after_look,
    first_look,
    latest_moment,
    look_is_due,
    renewal_due,
    renewal_moment,
)

NAME = "www.intra.example.com"
LIFETIMES = st.integers(160 * HOUR, 398 * DAY)
BEGINNINGS = st.integers(1_600_000_000, 4_000_000_000)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz.-", min_size=1, max_size=40)
GENERATIONS = st.integers(1, 2**53 - 1)
DRAWS = st.floats(0, 1, exclude_max=True)
TIMES = st.integers(-62_135_596_800, 253_402_300_799)
WAITS = st.floats(60, 86_400)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    begin = draw(BEGINNINGS)
    return Life(begin, begin + draw(LIFETIMES), begin + draw(st.integers(0, HOUR)))


@st.composite
def windows(draw: st.DrawFn) -> RenewalWindow:
    start, end = sorted((draw(TIMES), draw(TIMES)))
    assume(start < end)
    return RenewalWindow(start, end, draw(WAITS))


def due_by_lifetime(life: Life, name: str = NAME, generation: int = 1) -> int:
    due = renewal_due(life, None, certificate=name, generation=generation)
    assert due.reason is Reason.LIFETIME
    return due.at


# --- by share of the lifetime ---------------------------------------------------------------


@given(BEGINNINGS, LIFETIMES)
def test_a_third_is_left_or_half_of_a_short_one(begin: int, lifetime: int) -> None:
    left = (begin + lifetime - renewal_moment(begin, begin + lifetime)) / lifetime
    assert abs(left - (1 / 2 if lifetime < 10 * DAY else 1 / 3)) < 1e-6


@given(BEGINNINGS, LIFETIMES, NAMES, GENERATIONS)
def test_due_lies_just_before_its_share(
    begin: int, lifetime: int, name: str, generation: int
) -> None:
    life = Life(begin, begin + lifetime, begin)
    due = due_by_lifetime(life, name, generation)
    moment = renewal_moment(begin, life.not_after)
    assert moment - 0.02 * lifetime - 1 <= due <= moment
    assert due == due_by_lifetime(life, name, generation)


@given(BEGINNINGS, LIFETIMES, NAMES, GENERATIONS, st.floats(0, 1))
def test_what_was_just_issued_is_never_due_at_once(
    begin: int, lifetime: int, name: str, generation: int, passed: float
) -> None:
    now = begin + int(lifetime * passed)
    due = due_by_lifetime(Life(begin, begin + lifetime, now), name, generation)
    assert due >= now + 60
    assert due >= now + (begin + lifetime - now) // 4


def test_spread_over_certificates_and_generations() -> None:
    life = Life(0, 90 * DAY, 0)
    moments = {due_by_lifetime(life, f"host{n}.example.com", 7) for n in range(200)}
    assert len(moments) > 190
    assert max(moments) - min(moments) > 0.015 * 90 * DAY


# --- by the CA's window ---------------------------------------------------------------------


@given(windows(), st.integers(0, 4_000_000_000), DRAWS)
def test_one_moment_inside_the_window_is_chosen_and_kept(
    window: RenewalWindow, now: int, draw: float
) -> None:
    first = after_look(Advice(now), window, now, draw)
    assert first.chosen is not None
    assert window.start <= first.chosen <= window.end
    again = after_look(first, window, now + HOUR, 0.999)
    assert (again.chosen, again.seen_at) == (first.chosen, now)


def test_the_moment_is_spread_over_the_whole_window() -> None:
    window = RenewalWindow(0, 1000, 60.0)
    chosen = [after_look(Advice(0), window, 0, n / 100).chosen for n in range(100)]
    assert chosen == list(range(0, 1000, 10))


@given(windows(), windows(), DRAWS)
def test_another_window_means_another_moment(
    one: RenewalWindow, other: RenewalWindow, draw: float
) -> None:
    assume((one.start, one.end) != (other.start, other.end))
    before = after_look(Advice(0), one, 100, draw)
    after = after_look(before, other, 200, draw)
    assert after.chosen is not None
    assert other.start <= after.chosen <= other.end
    assert after.seen_at == 200


@given(lives(), windows(), DRAWS, st.integers(0, 50), st.integers(0, 398 * DAY))
def test_no_window_puts_a_renewal_off_for_long(
    life: Life, window: RenewalWindow, draw: float, hurried: int, later: int
) -> None:
    """Whatever the CA says, a sixth of the lifetime is left; a quarter of a short one."""
    advice = after_look(Advice(0), window, life.issued_at + later, draw)
    due = renewal_due(life, advice, certificate=NAME, generation=1, hurried=hurried)
    lifetime = life.not_after - life.not_before
    kept = lifetime / 4 if lifetime < SHORT_LIFETIME else lifetime / 6
    assert due.at <= life.not_after - kept + 1
    assert due.at <= latest_moment(life) + 1


@given(lives(), st.integers(0, 300 * DAY), st.integers(1, 10_000 * DAY), st.integers(1, DAY), DRAWS)
def test_a_past_window_means_now(life: Life, age: int, ago: int, length: int, draw: float) -> None:
    now = life.issued_at + age
    window = RenewalWindow(now - ago - length, now - ago, 60.0)
    due = renewal_due(
        life, after_look(Advice(0), window, now, draw), certificate=NAME, generation=1
    )
    if due.reason is not Reason.WINDOW_LATE:
        assert due.reason is Reason.WINDOW_PAST
    assert due.at <= now or now >= latest_moment(life) - 0.02 * (life.not_after - life.not_before)


@given(lives(), DRAWS)
def test_a_moment_that_comes_to_pass_was_no_past_window(life: Life, draw: float) -> None:
    middle = (life.issued_at + int(renewal_moment(life.not_before, life.not_after))) // 2
    window = RenewalWindow(middle, middle + HOUR, 3600.0)
    advice = after_look(Advice(0), window, middle - HOUR, draw)
    later = after_look(advice, window, middle + 2 * HOUR, draw)
    due = renewal_due(life, later, certificate=NAME, generation=1)
    assert (due.at, due.reason) == (advice.chosen, Reason.WINDOW)


def test_windows_that_are_always_past_do_not_spend_the_ca_s_limits() -> None:
    """Five certificates in seven days is what Let's Encrypt gives for one set of names."""
    now, issued = 1_800_000_000, [1_800_000_000]
    while now < 1_800_000_000 + 70 * DAY:
        life = Life(issued[-1], issued[-1] + 90 * DAY, issued[-1])
        advice = after_look(Advice(0), RenewalWindow(now - 9, now - 5, 60.0), now, 0.5)
        hurried = sum(at > now - 7 * DAY for at in issued[1:])
        due = renewal_due(life, advice, certificate=NAME, generation=1, hurried=hurried)
        now = max(now + MINUTE, due.at)
        issued.append(now)
    busiest = max(sum(at <= other < at + 7 * DAY for other in issued) for at in issued)
    assert busiest <= 6
    later = [at for at in issued if at > 1_800_000_000 + 14 * DAY]
    assert len(later) < 56 / 7 * 3


# --- looking --------------------------------------------------------------------------------


@given(windows(), st.integers(0, 4_000_000_000), DRAWS)
def test_retry_after_is_the_earliest_and_the_latest(
    window: RenewalWindow, now: int, draw: float
) -> None:
    advice = after_look(Advice(0), window, now, draw)
    assert window.retry_after <= advice.next_look - now <= window.retry_after + 31
    assert not look_is_due(advice, advice.next_look - 1)
    assert look_is_due(advice, advice.next_look)


@given(st.integers(0, 4_000_000_000), DRAWS)
def test_the_first_look_is_soon_but_not_with_all_the_others(now: int, draw: float) -> None:
    advice = first_look(now, draw)
    assert now + MINUTE <= advice.next_look <= now + 10 * MINUTE
    assert renewal_due(Life(now, now + 90 * DAY, now), advice, certificate=NAME, generation=1)


@given(windows(), DRAWS, st.integers(1, 40))
def test_failed_looks_keep_what_is_known_and_back_off(
    window: RenewalWindow, draw: float, times: int
) -> None:
    now = 1_800_000_000
    known = advice = after_look(Advice(0), window, now, draw)
    pauses = []
    for _ in range(times):
        advice = after_failed_look(advice, IssuanceUnavailable("away"), now, draw)
        pauses.append(advice.next_look - now)
    assert (advice.chosen, advice.start, advice.end) == (known.chosen, known.start, known.end)
    assert advice.failures == times
    assert pauses == sorted(pauses)
    assert MINUTE <= pauses[0] <= 2 * MINUTE
    assert pauses[-1] <= 6 * HOUR + 31
    healed = after_look(advice, window, now, draw)
    assert (healed.failures, healed.problem, healed.chosen) == (0, "", known.chosen)


@given(DRAWS)
def test_refusals_wait_six_hours_and_retry_after_is_clamped(draw: float) -> None:
    for error, least in (
        (IssuanceRejected("no such certificate"), 6 * HOUR),
        (IssuanceRateLimited("slow", retry_after=7 * DAY), DAY),
        (IssuanceRateLimited("slow", retry_after=0.0), MINUTE),
        (IssuanceUnavailable("busy", retry_after=HOUR), HOUR),
        (ClockWrong("a year"), MINUTE),
    ):
        pause = after_failed_look(Advice(0), error, 0, draw).next_look
        assert least <= pause <= least + 31


def test_a_ca_without_renewal_information_is_asked_once_a_day() -> None:
    known = after_look(Advice(0), RenewalWindow(10, 20, 60.0), 0, 0.5)
    advice = after_look(known, None, 100, 0.5)
    assert advice.next_look == 100 + DAY
    assert advice.chosen is None


@given(st.integers(301, 20 * 365 * DAY), windows(), DRAWS)
def test_a_clock_that_was_set_back_does_not_stop_the_looks(
    jump: int, window: RenewalWindow, draw: float
) -> None:
    now = 1_800_000_000
    ahead = after_look(Advice(0), window, now + jump, draw)
    assert look_is_due(ahead, now)
    again = after_look(ahead, window, now, draw)
    assert again.chosen == ahead.chosen
    assert not look_is_due(again, now + 59)


@given(windows(), DRAWS)
def test_advice_survives_being_written_down(window: RenewalWindow, draw: float) -> None:
    advice = after_look(Advice(0), window, 1_800_000_000, draw)
    assert Advice(**json.loads(json.dumps(dataclasses.asdict(advice)))) == advice
