"""What is served at this moment, and what the handshakes say of the server's health."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Final

from internal_puller.install.active import Active
from internal_puller.install.presets import Plan
from internal_puller.install.probe import look_all
from internal_puller.outbox.look import TROUBLE_WORDS, Answer, Look, Trouble
from shared.contract.diagnosis import Finding, Verdict

_TROUBLE_DO: Final = {
    Trouble.MIXED_PAIR: "Name certificate and key of one directory in its configuration; reload.",
    Trouble.NO_HANDSHAKE: "See whether its protocols and ciphers go with this kind of key.",
}
_Said = tuple[Verdict, str, str]


def served_findings(plan: Plan, active: Active | None, subject: str) -> Iterator[Finding]:
    """Look at every address of every probe point.

    Args:
        active: what is in place; ``None``: nothing.
    """
    if not plan.probe:
        what = "Nobody looks at what is served: this target has no probe."
        name = shlex.quote(str(plan.target.directory))
        do = f"internal-puller target change {name} --probe ADDRESS:PORT/NAME"
        yield Finding("served", Verdict.UNKNOWN, subject, what, do)
    kind = None if active is None else active.key_kind
    for look in look_all(plan.probe, plan.target.probe_timeout, kind):
        if look.leaf_sha256 is None:
            said = _unseen(look)
        elif active is not None and look.leaf_sha256 == active.leaf_sha256:
            said = _in_place(look)
        else:
            said = _another(look, plan, active)
        yield Finding("served", said[0], subject, said[1], said[2])
        if look.trouble is not None:
            what = f"{look.spot}: {TROUBLE_WORDS[look.trouble]}."
            yield Finding("served", Verdict.PROBLEM, subject, what, _TROUBLE_DO[look.trouble])


def _unseen(look: Look) -> _Said:
    if look.answer is Answer.NOT_KNOWN:
        what = f"What {look.spot} serves cannot be seen from here: {look.why}."
        do = "Let this machine reach it, or name another place: internal-puller target change."
        return Verdict.UNKNOWN, what, do
    do = "Does the server run, and listen there with TLS?"
    return Verdict.PROBLEM, f"No certificate was seen for {look.spot}: {look.why}.", do


def _in_place(look: Look) -> _Said:
    if _is_expired(look):
        what = f"{look.spot} serves a certificate that has expired."
        return Verdict.PROBLEM, what, "internal-puller pull"
    if look.answer is Answer.SHOWN:
        what = f"{look.spot} shows what is in place; that it has its key was not seen: {look.why}."
        return Verdict.NOTE, what, ""
    return Verdict.OK, f"{look.spot} serves what is in place.", ""


def _another(look: Look, plan: Plan, active: Active | None) -> _Said:
    until = time.strftime("%Y-%m-%d", time.gmtime(look.not_after or 0))
    if active is not None:
        what = f"{look.spot} serves another certificate, good until {until}, than the one in place."
        do = f"Name {plan.target.directory}/current/… in its configuration, and reload it."
        return Verdict.PROBLEM, what, do
    if _is_expired(look):
        what = f"{look.spot} serves a certificate that has expired."
        return Verdict.PROBLEM, what, "internal-puller pull"
    what = f"{look.spot} serves a certificate of somebody else's, good until {until}."
    return Verdict.NOTE, what, ""


def _is_expired(look: Look) -> bool:
    return look.not_after is not None and look.not_after <= time.time()
