"""The judge's tables, cell by cell, and what holds of every case."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internal_puller.install.judge import Case, Leaf, Reload, is_dead, judge, judge_back
from internal_puller.install.judge import Test as ConfigTest  # pytest collects what begins with it
from internal_puller.install.server import Running
from internal_puller.outbox.look import Answer, Look, Trouble
from internal_puller.outbox.verdict import BACK, Verdict

DAY: Final = 86_400
NOW: Final = 1_000 * DAY
NEW: Final = Leaf("a1" * 32, NOW - DAY, NOW + 99 * DAY)
OLD: Final = Leaf("b2" * 32, NOW - 60 * DAY, NOW + 40 * DAY)
THIRD, OTHER = "c3" * 32, "d4" * 32

Seen = tuple[Answer, str | None, Trouble | None]
"""A look without where."""
NONE: Final[Seen] = (Answer.NONE, None, None)
UNKNOWN: Final[Seen] = (Answer.NOT_KNOWN, None, None)
LEAVES: Final = {"new": NEW.sha256, "old": OLD.sha256, "third": THIRD, "other": OTHER}
SEEN: Final[dict[str, Seen]] = {"none": NONE, "unknown": UNKNOWN} | {
    f"{name}{suffix}": (answer, leaf, trouble)
    for name, leaf in LEAVES.items()
    for suffix, answer, trouble in (
        ("", Answer.PROVEN, None),
        ("-shown", Answer.SHOWN, None),
        ("-broken", Answer.SHOWN, Trouble.MIXED_PAIR),
    )
}
"""``-shown``: why it ended is not the server's fault, or not known; ``-broken``: it is."""


def at(seen: Seen, address: str = "192.0.2.1") -> Look:
    answer, leaf, trouble = seen
    why = "" if answer is Answer.PROVEN else "why"
    return Look(address, 443, "www.example.com", answer, leaf, why=why, trouble=trouble)


def case(before: str = "old", after: str = "new") -> Case:
    """All went well, but for what was seen; ``unseen`` is an address of which nothing is known."""
    looks = () if before == "unseen" else (at(SEEN[before]),)
    after_looks = (at(SEEN[after]),)
    yes = Running.YES
    return Case(NEW, OLD, ConfigTest.PASSES, yes, Reload.DONE, yes, looks, after_looks, NOW)


# --- by the leaf: what each address showed before (rows), and shows after (columns) -------------

WORDS: Final = {
    "S": Verdict.SERVED,
    "<": Verdict.BACK_BY_LEAF,
    "B": Verdict.SEEN_BEFORE,
    "N": Verdict.NOT_TAKEN_UP,
    "A": Verdict.ANOTHER_SERVER,
    "?": Verdict.CANNOT_BE_SEEN,
}
COLUMNS: Final = (
    *("new", "new-shown", "new-broken", "old", "old-shown", "old-broken"),
    *("third", "third-shown", "third-broken", "other", "other-broken", "none", "unknown"),
)
GRID: Final = {
    #              new  -s -b  old -s -b  third -s -b  other -b  none unknown
    "old":          "S   ?  <   N  N  <   <     <  <   <     <   <    ?",
    "old-shown":    "S   S  S   N  N  N   <     <  <   <     <   <    ?",
    "old-broken":   "S   S  S   N  N  N   <     <  <   <     <   <    ?",
    "new":          "B   ?  <   N  N  <   <     <  <   <     <   <    ?",
    "new-shown":    "B   B  B   N  N  N   <     <  <   <     <   <    ?",
    "third":        "S   ?  <   N  N  <   A     A  <   <     <   <    ?",
    "third-shown":  "S   S  S   N  N  N   A     A  A   <     <   <    ?",
    "none":         "S   S  S   N  N  N   A     A  A   A     A   ?    ?",
    "unknown":      "S   S  S   N  N  N   A     A  A   A     A   ?    ?",
    "unseen":       "S   S  S   N  N  N   A     A  A   A     A   ?    ?",
}  # fmt: skip
CELLS: Final = [
    pytest.param(before, after, WORDS[word], id=f"{before} to {after}")
    for before, row in GRID.items()
    for after, word in zip(COLUMNS, row.split(), strict=True)
]


@pytest.mark.parametrize(("before", "after", "verdict"), CELLS)
def test_by_the_leaf(before: str, after: str, verdict: Verdict) -> None:
    assert judge(case(before, after)) is verdict


@pytest.mark.parametrize(
    ("before", "after", "verdict"), [one for one in CELLS if "old" not in str(one.id)]
)
def test_by_the_leaf_of_a_first_certificate(before: str, after: str, verdict: Verdict) -> None:
    assert judge(replace(case(before, after), old=None)) is verdict


def test_without_a_probe_it_is_in_place_and_never_served() -> None:
    assert judge(replace(case(), before=(), after=())) is Verdict.IN_PLACE


def test_what_is_in_place_already_is_served_when_it_is_seen() -> None:
    """Confirming and looking again: nothing is new, so to have been seen before is right."""
    assert judge(replace(case("new", "new"), old=NEW)) is Verdict.SERVED
    assert judge(replace(case("new", "none"), old=NEW)) is Verdict.BACK_BY_LEAF


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (("old", "none"), ("old", "old"), Verdict.BACK_BY_LEAF),
        (("old", "old"), ("third", "third"), Verdict.NOT_TAKEN_UP),
        (("third", "third"), ("new", "new"), Verdict.ANOTHER_SERVER),
        (("new", "new"), ("old", "unknown"), Verdict.SEEN_BEFORE),
        (("old", "unknown"), ("old", "new"), Verdict.CANNOT_BE_SEEN),
        (("old", "new"), ("old", "new"), Verdict.SERVED),
    ],
)
def test_a_target_gets_the_worst_of_its_addresses(
    first: tuple[str, str], second: tuple[str, str], verdict: Verdict
) -> None:
    for one, other in ((first, second), (second, first)):
        looks = [
            (at(SEEN[one[step]], "192.0.2.1"), at(SEEN[other[step]], "192.0.2.2"))
            for step in (0, 1)
        ]
        assert judge(replace(case(), before=looks[0], after=looks[1])) is verdict


def test_an_address_is_compared_with_itself_alone() -> None:
    """Another address showed the old one: this one showed nothing that could have got worse."""
    one = replace(case("old", "none"), before=(at(SEEN["old"], "192.0.2.9"),))
    assert judge(one) is Verdict.CANNOT_BE_SEEN


# --- by the test ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (ConfigTest.PASSES, Verdict.SERVED),
        (ConfigTest.FAILS, Verdict.BACK_BY_TEST),
        (ConfigTest.FAILS_ANYWAY, Verdict.BROKEN_BEFORE),
    ],
)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("expired", [False, True])
def test_by_the_test(test: ConfigTest, verdict: Verdict, first: bool, expired: bool) -> None:
    """First ones too: the configuration does without them; and back to what has expired."""
    old = None if first else replace(OLD, not_after=NOW - 1) if expired else OLD
    assert judge(replace(case(), test=test, old=old)) is verdict


# --- by the reload --------------------------------------------------------------------------


@pytest.mark.parametrize(("ran", "runs"), list(product(Running, Running)))
def test_by_how_the_server_runs(ran: Running, runs: Running) -> None:
    stopped = (Running.NO, Running.FAILED)
    if ran in stopped:  # started since by somebody, it shows what it took up
        verdict = Verdict.SERVED if runs is Running.YES else Verdict.NOT_RUNNING
    elif ran is Running.YES and runs in stopped:
        verdict = Verdict.BACK_BY_DEATH
    else:
        verdict = Verdict.SERVED
    assert judge(replace(case(), ran=ran, runs=runs)) is verdict
    assert is_dead(ran, runs) is (verdict is Verdict.BACK_BY_DEATH)


@pytest.mark.parametrize("ran", [Running.NO, Running.FAILED])
@pytest.mark.parametrize("after", COLUMNS)
def test_nothing_goes_back_by_leaf_because_a_server_was_down(ran: Running, after: str) -> None:
    """What is seen at the probe's address is another machine's then, or of somebody's start."""
    assert judge(replace(case("old", after), ran=ran)) not in BACK
    assert judge(replace(case("old", after), ran=ran, runs=ran)) is Verdict.NOT_RUNNING


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("old", "old", Verdict.RELOAD_FAILED),
        ("third", "third", Verdict.RELOAD_FAILED),
        ("none", "none", Verdict.RELOAD_FAILED),
        ("new", "new", Verdict.RELOAD_FAILED),
        ("old", "unknown", Verdict.RELOAD_FAILED),
        ("old", "new", Verdict.SERVED),  # taken up all the same
        ("old", "none", Verdict.BACK_BY_LEAF),
        ("old", "third", Verdict.BACK_BY_LEAF),
    ],
)
def test_a_reload_that_failed(before: str, after: str, verdict: Verdict) -> None:
    assert judge(replace(case(before, after), reload=Reload.FAILED)) is verdict
    without = replace(case(before, after), reload=Reload.FAILED, before=(), after=())
    assert judge(without) is Verdict.RELOAD_FAILED


@pytest.mark.parametrize(("before", "after", "verdict"), CELLS)
def test_not_to_have_been_told_is_no_failure(before: str, after: str, verdict: Verdict) -> None:
    """It has no such command: it may look at its files by itself."""
    assert judge(replace(case(before, after), reload=Reload.NONE)) is verdict


@pytest.mark.parametrize("reload", list(Reload))
@pytest.mark.parametrize("old", [None, OLD, replace(OLD, not_after=NOW - 1)])
def test_what_killed_the_server_goes_back_however_old_the_old_one(
    reload: Reload, old: Leaf | None
) -> None:
    dead = replace(case("old", "none"), reload=reload, runs=Running.FAILED, old=old)
    assert judge(dead) is Verdict.BACK_BY_DEATH


# --- what is gone back to -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (40 * DAY, Verdict.BACK_BY_LEAF),
        (10 * DAY, Verdict.BACK_BY_LEAF),  # a tenth of its hundred days
        (10 * DAY - 1, Verdict.WORSE_AND_KEPT),
        (0, Verdict.WORSE_AND_KEPT),
        (-1, Verdict.WORSE_AND_KEPT),
    ],
)
def test_back_by_leaf_never_goes_to_what_has_expired_or_nearly(left: int, verdict: Verdict) -> None:
    old = Leaf(OLD.sha256, NOW + left - 100 * DAY, NOW + left)
    assert judge(replace(case("old", "none"), old=old)) is verdict


BY_LEAF, BY_DEATH = Verdict.BACK_BY_LEAF, Verdict.BACK_BY_DEATH
UNSEEN, NOT_CAUSED = Verdict.BACK_UNSEEN, Verdict.NOT_CAUSED


@pytest.mark.parametrize(
    ("found", "before", "again", "runs", "verdict"),
    [
        (BY_LEAF, "old", "old", Running.YES, BY_LEAF),
        (BY_LEAF, "old", "old", Running.NOT_KNOWN, BY_LEAF),
        (BY_LEAF, "old", "old-shown", Running.YES, BY_LEAF),
        (BY_LEAF, "old", "none", Running.YES, NOT_CAUSED),
        (BY_LEAF, "old", "third", Running.YES, NOT_CAUSED),
        (BY_LEAF, "old", "new", Running.YES, NOT_CAUSED),
        (BY_LEAF, "old", "old-broken", Running.YES, NOT_CAUSED),
        (BY_LEAF, "old", "unknown", Running.YES, UNSEEN),
        (BY_LEAF, "old", "unseen", Running.YES, UNSEEN),
        (BY_LEAF, "old", "none", Running.FAILED, UNSEEN),
        (BY_LEAF, "third", "third", Running.YES, BY_LEAF),
        (BY_DEATH, "old", "old", Running.YES, BY_DEATH),
        (BY_DEATH, "old", "old", Running.NOT_KNOWN, BY_DEATH),
        (BY_DEATH, "old", "none", Running.YES, UNSEEN),
        (BY_DEATH, "old", "unknown", Running.YES, UNSEEN),
        (BY_DEATH, "old", "none", Running.FAILED, UNSEEN),
        (BY_DEATH, "unseen", "unseen", Running.YES, BY_DEATH),
        (BY_DEATH, "none", "none", Running.YES, BY_DEATH),
        (BY_DEATH, "unseen", "unseen", Running.NOT_KNOWN, UNSEEN),
        (BY_DEATH, "unseen", "unseen", Running.NO, UNSEEN),
        (UNSEEN, "old", "old", Running.YES, BY_LEAF),
        (UNSEEN, "old", "none", Running.YES, UNSEEN),
        (UNSEEN, "old", "old", Running.FAILED, UNSEEN),
        (UNSEEN, "unseen", "unseen", Running.YES, BY_LEAF),
        (UNSEEN, "unseen", "unseen", Running.NOT_KNOWN, UNSEEN),
    ],
)
def test_going_back_counts_only_if_it_helped(
    found: Verdict, before: str, again: str, runs: Running, verdict: Verdict
) -> None:
    looks = [() if one == "unseen" else (at(SEEN[one]),) for one in (before, again)]
    assert judge_back(found, looks[0], looks[1], runs) is verdict


# --- of every case --------------------------------------------------------------------------

ADDRESSES: Final = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
seen = st.sampled_from(sorted(SEEN)).map(SEEN.__getitem__)
looks = st.dictionaries(st.sampled_from(ADDRESSES), seen).map(
    lambda found: tuple(at(what, where) for where, what in sorted(found.items()))
)
olds = st.one_of(
    st.none(),
    st.builds(
        lambda life, left: Leaf(OLD.sha256, NOW + left - life, NOW + left),
        st.integers(1, 400 * DAY),
        st.integers(-400 * DAY, 400 * DAY),
    ),
)
cases = st.builds(
    Case,
    new=st.just(NEW),
    old=olds,
    test=st.sampled_from(ConfigTest),
    ran=st.sampled_from(Running),
    reload=st.sampled_from(Reload),
    runs=st.sampled_from(Running),
    before=looks,
    after=looks,
    now=st.just(float(NOW)),
)


def got_worse(one: Case) -> bool:
    """Whether an address shows less, or another one's, for certain: by the order's words alone."""
    ours = {NEW.sha256, one.old.sha256 if one.old else ""}
    now = {look.where: look for look in one.after}
    return any(
        (after.answer is Answer.NONE)
        or (had.answer is Answer.PROVEN and after.answer is Answer.SHOWN and bool(after.trouble))
        or (after.leaf_sha256 not in ours | {had.leaf_sha256, None})
        for had in one.before
        if had.leaf_sha256 and (after := now.get(had.where)) is not None
    )


@given(cases)
def test_only_what_got_worse_goes_back_by_leaf(one: Case) -> None:
    if judge(one) in (Verdict.BACK_BY_LEAF, Verdict.WORSE_AND_KEPT):
        assert got_worse(one)


@given(cases, st.sampled_from(ADDRESSES), st.booleans())
def test_what_is_not_known_never_sends_anything_back(
    one: Case, address: str, forgotten: bool
) -> None:
    """Less is known, of before or after: what stayed stays."""

    def less(looks: tuple[Look, ...]) -> tuple[Look, ...]:
        unknown = at(UNKNOWN, address)
        return tuple(unknown if look.address == address else look for look in looks)

    if forgotten:
        darker = replace(one, before=less(one.before))
    else:
        darker = replace(one, after=less(one.after))
    if judge(one) not in BACK:
        assert judge(darker) not in BACK
    unknown = replace(one, ran=Running.NOT_KNOWN, after=tuple(at(UNKNOWN) for _ in one.after))
    if one.test is ConfigTest.PASSES:
        assert judge(unknown) not in BACK


@given(cases)
def test_nothing_goes_back_by_leaf_to_what_is_not_usable(one: Case) -> None:
    if judge(one) is Verdict.BACK_BY_LEAF and one.old is not None:
        left, life = one.old.not_after - NOW, one.old.not_after - one.old.not_before
        assert left > 0
        assert 10 * left >= life


@given(cases)
def test_of_a_first_certificate_the_one_before_is_never_spoken_of(one: Case) -> None:
    if one.old is None:
        assert judge(one) not in (Verdict.NOT_TAKEN_UP, Verdict.WORSE_AND_KEPT)


@given(cases)
def test_the_test_decides_before_the_server_and_the_server_before_the_leaf(one: Case) -> None:
    verdict = judge(one)
    if one.test is ConfigTest.FAILS:
        assert verdict is Verdict.BACK_BY_TEST
    elif one.test is ConfigTest.FAILS_ANYWAY:
        assert verdict is Verdict.BROKEN_BEFORE
    elif is_dead(one.ran, one.runs):
        assert verdict is Verdict.BACK_BY_DEATH
    else:
        assert verdict not in (Verdict.BACK_BY_TEST, Verdict.BACK_BY_DEATH, Verdict.BACK_UNSEEN)


@given(cases)
def test_served_is_what_every_address_shows(one: Case) -> None:
    if judge(one) is Verdict.SERVED:
        assert one.after
        assert {look.leaf_sha256 for look in one.after} == {NEW.sha256}


@given(cases)
def test_what_is_as_before_is_not_worse(one: Case) -> None:
    unchanged = replace(one, before=one.after, test=ConfigTest.PASSES, runs=one.ran)
    assert judge(unchanged) not in BACK
