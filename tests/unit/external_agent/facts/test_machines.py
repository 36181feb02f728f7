"""Two machines with one puller's keys: told from a reboot and from a new host name."""

from __future__ import annotations

import pytest

from external_agent.facts.machines import (
    BY_TURNS,
    LATELY,
    REMEMBERED,
    is_news,
    remembered,
    two_machines,
)
from external_agent.records.rows import MachineRow
from shared.contract.wire import Machine
from shared.issuing.renewal import DAY, HOUR

NOW = 1_800_000_000
NAMES = {"A": "web1", "B": "web1-copy", "C": "web1-third"}


def asked(turns: str, *, every: int = HOUR, end: int = NOW) -> tuple[MachineRow, ...]:
    """Return what is remembered of machines that asked in this order, the last one at ``end``."""
    seen: tuple[MachineRow, ...] = ()
    for place, letter in enumerate(turns):
        at = end - every * (len(turns) - 1 - place)
        seen = remembered(seen, Machine(letter.lower() * 32, NAMES.get(letter, "x")), at)
    return seen


@pytest.mark.parametrize(
    ("turns", "hosts"),
    [
        ("", None),
        ("A", None),
        ("AAAA", None),
        ("AB", None),  # a reboot, or a new host name
        ("AABB", None),
        ("AABBCC", None),  # a reboot a day
        ("ABA", ("web1", "web1-copy")),
        ("ABAB", ("web1", "web1-copy")),
        ("AABBA", ("web1", "web1-copy")),
        ("ABBBBBBA", ("web1", "web1-copy")),
        ("ACCBCB", ("web1-third", "web1-copy")),
        ("ABCABC", ("web1-copy", "web1-third")),
    ],
)
def test_by_turns(turns: str, hosts: tuple[str, str] | None) -> None:
    pair = two_machines(asked(turns), NOW)
    assert (pair and tuple(one.host for one in pair)) == hosts


def test_it_ends_a_week_after_the_second_was_seen_last() -> None:
    seen = asked("ABAB")
    last_of_a = NOW - HOUR
    assert two_machines(seen, last_of_a + LATELY - 1) is not None
    assert two_machines(seen, last_of_a + LATELY) is None


def test_a_machine_that_comes_back_after_a_week_away_is_no_copy() -> None:
    seen = asked("A", end=NOW - 8 * DAY)
    seen = remembered(seen, Machine("b" * 32, "web1"), NOW - 7 * DAY)
    assert two_machines(seen, NOW) is None


def test_clocks_of_two_agents_that_differ_a_little_make_no_copy() -> None:
    """The old boot's last question is noted by one agent, the new one's first by another."""
    assert two_machines(asked("ABB", every=-20), NOW + HOUR) is None
    assert two_machines(asked("ABA", every=BY_TURNS // 2), NOW) is None


def test_what_was_seen_in_the_future_is_forgotten() -> None:
    ahead = asked("AB", end=NOW + 400 * DAY)
    seen = remembered(ahead, Machine("b" * 32, "web1"), NOW)
    assert [(one.first_seen, one.last_seen) for one in seen] == [(NOW, NOW)]
    seen = remembered(seen, Machine("b" * 32, "web1"), NOW + DAY)
    assert two_machines(seen, NOW + DAY) is None


def test_only_the_latest_are_remembered() -> None:
    seen: tuple[MachineRow, ...] = ()
    for number in range(20):
        seen = remembered(seen, Machine(f"{number:032x}", "x"), NOW + number * HOUR)
    assert len(seen) == REMEMBERED
    assert {int(one.installation, 16) for one in seen} == set(range(12, 20))


def test_news_is_a_new_one_or_a_minute() -> None:
    seen = asked("A")
    assert not is_news(seen, Machine("a" * 32, "web1"), NOW + BY_TURNS - 1)
    assert is_news(seen, Machine("a" * 32, "web1"), NOW + BY_TURNS)
    assert is_news(seen, Machine("a" * 32, "web1"), NOW - 1)
    assert not is_news(seen, Machine("b" * 32, "web1"), NOW + BY_TURNS - 1), "one new a minute"
    assert is_news(seen, Machine("b" * 32, "web1"), NOW + BY_TURNS)
