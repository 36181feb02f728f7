"""Step 7: going back after a reload that killed a server, or made what it shows worse.

Going back counts only if it helped. All verdicts are noted in one write before the first link, and
each change of one before the links that follow from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.judge import is_as_before, is_dead, judge_back
from internal_puller.install.server import Running
from internal_puller.outbox.verdict import Verdict
from shared.contract.errors import StageFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from internal_puller.install.member import Member
    from internal_puller.install.steps import Steps
    from internal_puller.outbox.look import Look


def go_back(steps: Steps) -> None:
    """Let links follow the verdicts, tell the servers or start them, and see whether it helped.

    Raises:
        StageFailed: the servers' machine cannot be reached; the note stays.
    """
    told_before = not any(
        one.verdict in (Verdict.BACK_BY_LEAF, Verdict.BACK_BY_DEATH) for one in steps.members
    )
    _keep_what_outlived_the_old(steps)
    _follow(steps)
    if not told_before and _is_refused_without(steps):
        return
    _tell(steps, reload=not told_before)
    if dead := _died_by_it(steps):
        steps.note_death(dead)
        _follow(steps)
        _is_refused_without(steps)
        _tell(steps, reload=False)
    _see(steps)


def _keep_what_outlived_the_old(steps: Steps) -> None:
    """Between a verdict and a resumed way back the old one may have come near its end."""
    for one in steps.members:
        if one.verdict is Verdict.BACK_BY_LEAF and one.old and not one.old.is_usable(steps.now()):
            one.verdict = Verdict.WORSE_AND_KEPT


def _follow(steps: Steps) -> None:
    """Note the verdicts, then switch the links; one that cannot be switched keeps no other."""
    steps.write()
    for one in steps.members:
        try:
            one.put(one.wanted)
            one.fault = None
        except StageFailed as fault:
            one.fault, one.detail = fault, fault.what


def _is_refused_without(steps: Steps) -> bool:
    """Test with what is in place now. Where it is needed after all, it is put in place again.

    Returns:
        Whether nothing is left to be told: no server is dead, and all that went back is new again.
    """
    back = [one for one in steps.members if one.verdict in _BY_RELOAD]
    died = any(one.verdict is Verdict.BACK_BY_DEATH for one in back)
    firsts = [one for one in back if one.previous is None]
    if died and not firsts:
        return False
    refusal = steps.servers.test_all()
    if not refusal:
        return False
    for one in _needed(steps, firsts) if died else back:
        one.verdict, one.detail = Verdict.NOT_CAUSED, refusal
    _follow(steps)
    return not died


def _needed(steps: Steps, firsts: list[Member]) -> list[Member]:
    """Return the first ones without which alone the test fails: the configuration names them."""
    for one in firsts:
        one.put(one.to)
    if steps.servers.test_all():
        return firsts  # it fails anyway, so that says nothing about any
    found = []
    for one in firsts:
        one.put(None)
        if steps.servers.test_all():
            found.append(one)
        one.put(one.to)
    return found


_BY_RELOAD = (Verdict.BACK_BY_LEAF, Verdict.BACK_BY_DEATH)


def _tell(steps: Steps, *, reload: bool) -> None:
    """Start what ran before and is dead; let the others read what is in place now."""
    servers = steps.servers
    servers.told.clear()
    for server in servers.servers:
        now = servers.steady(server)
        at_boot = server.name in servers.failed_at_boot and now is Running.FAILED
        if at_boot or is_dead(servers.ran_before(server), now):
            servers.start(server)
        elif reload:
            servers.tell(server, now=now)


def _died_by_it(steps: Steps) -> set[str]:
    """Return the names of dead servers that have files of ours which did not go back."""
    kept = [one for one in steps.members if one.changes and not one.is_back]
    dead = steps.dead(steps.servers.settled())
    return {
        server.name
        for one in kept
        if one.verdict is not Verdict.NOT_CAUSED
        for server in one.servers
        if server.name in dead
    }


def _see(steps: Steps) -> None:
    """Look whether what was seen before has returned; what did not help is undone."""
    runs = steps.servers.settled()
    dead = steps.dead(runs)
    steps.await_all(steps.members, _accepted)
    for one in steps.members:
        lives = not one.is_read_by(dead)
        for server in one.servers:
            how = steps.servers.how(server)[1]
            one.detail = one.detail if lives else how or one.detail
        if one.verdict is None:
            _judge_what_stayed(steps, one, lives=lives, runs=runs)
        elif one.is_back and one.verdict is not Verdict.BACK_BY_TEST:
            one.verdict = _of_the_way_back(one, _worst(one, dead, runs))
        elif one.is_back and one.fault:
            one.verdict = Verdict.BACK_UNSEEN
    if any(one.verdict is Verdict.NOT_CAUSED for one in steps.members):
        _follow(steps)


def _accepted(one: Member) -> Callable[[tuple[Look, ...]], bool]:
    """What is waited for: what was seen before, or for what stays its leaf."""
    if one.is_back:
        return lambda looks: is_as_before(one.before, looks) is True
    leaf = one.new.sha256
    return lambda looks: all(look.leaf_sha256 == leaf for look in looks)


def _judge_what_stayed(steps: Steps, one: Member, *, lives: bool, runs: dict[str, Running]) -> None:
    """A member that brought nothing new, of a server that died: it has nothing to go back to."""
    one.verdict = Verdict.BACK_UNSEEN
    if lives:
        steps.decide(one, runs)


def _worst(one: Member, dead: Collection[str], runs: Mapping[str, Running]) -> Running:
    """Return how the worst of a member's servers stands: dead, not known, or as the first."""
    names = [server.name for server in one.servers]
    found = [name for name in names if name in dead] or names
    return runs[found[0]] if found else Running.NOT_KNOWN


def _of_the_way_back(one: Member, runs: Running) -> Verdict:
    assert one.verdict is not None
    if one.fault is not None:
        return Verdict.BACK_UNSEEN
    judged = judge_back(one.verdict, one.before, one.looks, runs)
    return Verdict.BACK_UNSEEN if judged is Verdict.NOT_CAUSED and not one.changes else judged
