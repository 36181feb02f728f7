"""The promise that only what a new certificate made worse is undone (13), in the judge."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

_JUDGE: Final = "internal_puller/install/judge.py"

BREAKAGES: Final = (
    Breakage(
        13,
        "what is not known is taken for worse",
        _JUDGE,
        "    if after.answer is Answer.NOT_KNOWN:\n"
        "        return Verdict.CANNOT_BE_SEEN\n"
        "    if after.answer is Answer.NONE:\n",
        "    if after.answer in (Answer.NONE, Answer.NOT_KNOWN):\n",
        "test_what_is_not_known_never_sends_anything_back",
    ),
    Breakage(
        13,
        "less than before is kept",
        _JUDGE,
        "        return Verdict.CANNOT_BE_SEEN if had is None else Verdict.BACK_BY_LEAF\n",
        "        return Verdict.CANNOT_BE_SEEN\n",
        "test_by_the_leaf",
    ),
    Breakage(
        13,
        "an expired one is brought back because of a leaf",
        _JUDGE,
        "        usable = case.old is None or case.old.is_usable(case.now)\n",
        "        usable = True\n",
        "test_nothing_goes_back_by_leaf_to_what_is_not_usable",
    ),
    Breakage(
        13,
        "a server that the reload ended is left dead",
        _JUDGE,
        "    if is_dead(case.ran, case.runs):\n        return Verdict.BACK_BY_DEATH\n",
        "",
        "test_what_killed_the_server_goes_back_however_old_the_old_one",
    ),
    Breakage(
        13,
        "a certificate is taken back because its server was down",
        _JUDGE,
        "    if case.ran in STOPPED:",
        "    if case.ran in ():",
        "test_nothing_goes_back_by_leaf_because_a_server_was_down",
    ),
    Breakage(
        13,
        "a handshake that lost its key is as good as a whole one",
        _JUDGE,
        "    if before is not None and _lost_its_proof(before, after):\n"
        "        return Verdict.BACK_BY_LEAF\n",
        "",
        "test_by_the_leaf",
    ),
    Breakage(
        13,
        "what another machine shows is called served",
        _JUDGE,
        "    return Verdict.SEEN_BEFORE if seen_before else Verdict.SERVED\n",
        "    return Verdict.SERVED\n",
        "test_by_the_leaf",
    ),
    Breakage(
        13,
        "going back that did not help is not asked about",
        _JUDGE,
        "    if not (lives and returned):\n        return Verdict.BACK_UNSEEN\n",
        "",
        "test_going_back_counts_only_if_it_helped",
    ),
    Breakage(
        13,
        "the agent takes what cannot be seen for served",
        "external_agent/facts/serving.py",
        "    return None if is_of_installing(error) else True\n",
        "    return True\n",
        "test_what_is_in_place",
    ),
)
