"""Whether one puller's keys are on two machines: a copied VM has everything that the first one has.

An installation is one machine from one boot to the next. A reboot, or a new host name, changes it
once and never goes back; two machines that ask by turns go back again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from external_agent.records.rows import MachineRow
from shared.contract.wire import Machine
from shared.issuing.renewal import DAY

REMEMBERED = 8
LATELY = 7 * DAY
BY_TURNS = 60
"""Seconds by which the first must have been seen after the second appeared: agents that share a
database have clocks of their own, and ``last_seen`` is kept to the minute."""


def two_machines(seen: Iterable[MachineRow], now: int) -> tuple[MachineRow, MachineRow] | None:
    """Return two that asked by turns (A, B, A) and both of late; the one seen first comes first.

    Args:
        seen: installations of one puller.
        now: unix seconds.
    """
    lately = sorted(
        (one for one in seen if now - one.last_seen < LATELY), key=lambda one: one.first_seen
    )
    found = [
        (one, other)
        for one, other in combinations(lately, 2)
        if one.last_seen > other.first_seen + BY_TURNS
    ]
    return max(found, key=lambda pair: min(one.last_seen for one in pair), default=None)


def is_news(seen: Iterable[MachineRow], machine: Machine, now: int) -> bool:
    """Tell whether there is anything to write: most questions come from the machine of before.

    One installation a minute may be new: a puller that names another with each question would write
    without end.
    """
    seen = tuple(seen)
    known = next((one for one in seen if one.installation == machine.installation), None)
    if known is None:
        return not any(0 <= now - one.first_seen < BY_TURNS for one in seen)
    return not 0 <= now - known.last_seen < BY_TURNS


def remembered(seen: Iterable[MachineRow], machine: Machine, now: int) -> tuple[MachineRow, ...]:
    """Return what is known once ``machine`` has asked: at most :data:`REMEMBERED`, the latest.

    What was seen in the future is forgotten: our clock was wrong then, and no order follows.
    """
    known = {one.installation: one for one in seen if one.last_seen <= now + BY_TURNS}
    before = known.pop(machine.installation, None)
    first = now if before is None else min(before.first_seen, now)
    last = now if before is None else max(before.last_seen, now)
    others = sorted(known.values(), key=lambda one: -one.last_seen)[: REMEMBERED - 1]
    return (MachineRow(machine.installation, machine.host, first, last), *others)
