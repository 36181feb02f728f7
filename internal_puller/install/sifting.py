"""Step 4: whose new files each server refuses; that says nothing of what another one reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.halving import sift
from internal_puller.outbox.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.install.server import Server
    from internal_puller.install.steps import Steps


def sift_servers(steps: Steps, allow: Callable[[], None] = lambda: None) -> None:
    """Test each server once; where that fails find out who is to blame, and note it.

    It is noted before links go back. What one server refuses says nothing of another.

    Args:
        allow: called before each test; what it raises ends them.
    """
    if all(one.verdict for one in steps.members):
        return

    def test(server: Server) -> str:
        allow()
        return steps.servers.test(server)

    refusals = {server: test(server) for server in steps.servers.servers}
    moved = False
    for server, refusal in refusals.items():
        if refusal:
            moved |= _sift_one(steps, server, "" if moved else refusal, test)


def _sift_one(steps: Steps, server: Server, refusal: str, test: Callable[[Server], str]) -> bool:
    """Find out which new files of those that it reads a server refuses.

    Args:
        refusal: of all new ones; empty if that is not known any more.

    Returns:
        Whether one of them went back.
    """
    mine = [one for one in steps.members if one.verdict is None and server in one.servers]
    changing = {one.directory: one for one in mine if one.changes}
    firsts = [where for where, one in changing.items() if one.previous is None]
    known = {frozenset(changing): refusal} if refusal else {}

    def passes(new: frozenset[str]) -> bool:
        for where, one in changing.items():
            one.put(one.to if where in new else one.previous)
        found = known.pop(new, "") or test(server)
        for one in mine if found else ():
            if one.directory in new or one.directory not in changing:
                one.detail = found
        return not found

    found = sift(firsts, [where for where in changing if where not in firsts], passes)
    for one in mine:
        if found.broken or one.directory in found.back:
            broken = found.broken
            one.verdict = Verdict.BROKEN_BEFORE if broken else Verdict.BACK_BY_TEST
            one.speaks = server
    if found.back:
        steps.write()
    for one in mine:
        one.put(one.wanted)
    return bool(found.back)
