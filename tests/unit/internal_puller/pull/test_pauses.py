"""How long what failed, and what was not seen to be served, waits."""

from __future__ import annotations

from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import ERRORS, LOOKED_AT_AGAIN, Verdict
from internal_puller.pull.pauses import (
    LOOK_FIRST,
    LOOK_LONGEST,
    LOOK_SHARE,
    Pauses,
    next_pause,
    note_look,
)
from internal_puller.state.progress import Progress

DAY = 86400
PLACE = "/tls/www"
NAME = "www.example.org"


def outcome(verdict: Verdict, *, changed: bool = False, left: float = 90 * DAY) -> Outcome:
    kind = ERRORS[verdict]
    return Outcome(
        NAME,
        5,
        verdict,
        kind("So it is.") if kind else None,
        changed=changed,
        directory=PLACE,
        not_after=int(left),
    )


def looks_until(end: float, left: float) -> list[int]:
    """Return when a server is looked at that never shows what is in place."""
    progress, now, moments = Progress(), 0, []
    note_look(progress, outcome(Verdict.NOT_TAKEN_UP, changed=True, left=left), now)
    while (now := progress.standing[PLACE].again_at) < end:
        moments.append(now)
        note_look(progress, outcome(Verdict.NOT_TAKEN_UP, left=left), now)
    return moments


def test_from_a_minute_to_six_hours() -> None:
    moments = looks_until(5 * DAY, 900 * DAY)
    gaps = [two - one for one, two in zip([0, *moments], moments, strict=False)]
    assert gaps[:4] == [60, 120, 240, 480]
    assert gaps == sorted(gaps) and gaps[-1] == LOOK_LONGEST


def test_never_more_than_a_share_of_what_is_left() -> None:
    assert next_pause(LOOK_LONGEST, 2 * DAY) == 2 * DAY * LOOK_SHARE
    assert next_pause(0, 0) == next_pause(10_000, -5) == LOOK_FIRST
    assert all(one < DAY for one in looks_until(DAY, DAY)) and len(looks_until(DAY, DAY)) > 15


def test_it_begins_anew_when_something_changes() -> None:
    for changed in (
        outcome(Verdict.CANNOT_BE_SEEN),
        outcome(Verdict.NOT_TAKEN_UP, changed=True),
    ):
        progress = Progress()
        for now in (0, 60, 180, 420):
            note_look(progress, outcome(Verdict.NOT_TAKEN_UP), now)
        assert progress.standing[PLACE].pause == 480
        note_look(progress, changed, 900)
        assert progress.standing[PLACE].pause == LOOK_FIRST
        assert progress.standing[PLACE].since == (900 if changed.changed else 0)


def test_what_stands_and_what_does_not() -> None:
    for verdict in Verdict:
        progress = Progress()
        note_look(progress, outcome(verdict), 7)
        again = verdict in LOOKED_AT_AGAIN or verdict is Verdict.BACK_UNSEEN
        assert (PLACE in progress.standing) is again
        note_look(progress, outcome(Verdict.SERVED), 8)
        assert progress.standing == {}


def test_what_says_nothing_of_a_target_changes_nothing() -> None:
    progress = Progress()
    note_look(progress, outcome(Verdict.NOT_RUNNING), 7)
    before = dict(progress.standing)
    note_look(progress, Outcome(NAME, 5, None, directory=PLACE), 8)
    note_look(progress, Outcome(NAME, 5, Verdict.SERVED), 8)
    assert progress.standing == before


def test_what_failed_waits_twice_as_long_each_time() -> None:
    now = [0.0]
    pauses = Pauses(monotonic=lambda: now[0])
    waited = []
    for _ in range(12):
        pauses.defer(NAME, 5)
        begin = now[0]
        while pauses.is_deferred(NAME, 5):
            now[0] += 5
        waited.append(now[0] - begin)
    assert waited[:3] == [10, 20, 40] and waited[-1] == 3600
    assert not pauses.is_deferred(NAME, 6)
    pauses.defer(NAME, 5)
    pauses.over(NAME, 5)
    assert not pauses.is_deferred(NAME, 5)
