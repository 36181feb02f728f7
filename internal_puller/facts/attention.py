"""What of a puller's status needs somebody: for ``status``, its exit code, and monitoring."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from internal_puller.facts.expiry import WITHDRAWN
from internal_puller.facts.standing import tell
from internal_puller.outbox.look import TROUBLE_WORDS, Answer

if TYPE_CHECKING:
    from internal_puller.facts.status import CertificateStatus, Status, TargetStatus
    from internal_puller.settings.config import Settings

SILENT_SECONDS = 3 * 3600
"""The agent is asked every hour at least."""


def attention(facts: Status, settings: Settings, now: float) -> list[str]:
    """Return one sentence for each thing that a person should see to.

    Args:
        now: unix seconds.
    """
    found = []
    found += [f"nothing can be installed: {what}" for what in facts.state_problems]
    if facts.schedule.pulls is False:
        found.append(f"{facts.schedule.what}: {facts.schedule.do}")
    error = facts.error
    if error is not None and now - facts.last_contact > SILENT_SECONDS:
        found.append(f"the agent does not answer: {error.what}")
    for one in facts.certificates:
        found += [f"{one.certificate}: {what}" for what in _of_certificate(one, settings, now)]
    return found


def _of_certificate(one: CertificateStatus, settings: Settings, now: float) -> Iterator[str]:
    if not one.targets and not one.target_removed:
        yield "it is granted to this machine, and no target takes it: internal-puller target add"
    if one.withdrawn_at:
        yield from _withdrawn(one, now)
    if one.error is not None:
        yield one.error.what
    direct = one.direct
    if direct is not None and direct.error is not None and direct.failures >= 3:
        yield f"{direct.failures} orders failed in a row: {direct.error.what}"
    for target in one.targets:
        yield from _of_target(target, one.lifetime, settings, now)


def _withdrawn(one: CertificateStatus, now: float) -> Iterator[str]:
    """It goes on being served until it expires, and nothing else would say so before."""
    ends = min((target.not_after for target in one.targets if target.not_after), default=0)
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    when = f" and expires in {int((ends - now) // 86400)} days, {day}" if ends > now else ""
    yield (
        f"{WITHDRAWN}{when}. Grant it on the agent: external-agent puller grant "
        f"{socket.gethostname()} {one.certificate}; or give it up here: internal-puller target "
        f"remove {one.certificate}"
    )


def _of_target(
    target: TargetStatus, lifetime: int, settings: Settings, now: float
) -> Iterator[str]:
    if target.error is not None:
        yield target.error
        return
    left = target.not_after - now
    if target.installed is not None and left < settings.warn_below * lifetime:
        days = int(left // 86400)
        yield (
            f"the certificate in {target.directory} ends in {days} d"
            if left > 0
            else f"the certificate in {target.directory} HAS EXPIRED"
        )
    if target.standing is not None:
        yield tell(target.standing, now)
    else:
        yield from _of_looks(target)
    for one in target.looks:
        if one.trouble is not None:
            yield f"{one.spot}: {TROUBLE_WORDS[one.trouble]}"
    if target.unended is not None:
        yield target.unended


def _of_looks(target: TargetStatus) -> Iterator[str]:
    """What the verdict that stands would say better."""
    wrong = [one.spot for one in target.looks if one.denies(target.leaf_sha256)]
    if wrong:
        yield f"{', '.join(wrong)}: not what is in {target.directory}"
    for one in target.looks:
        if one.answer is Answer.NOT_KNOWN:
            yield (
                f"{one.spot}: whether it serves what is in {target.directory} cannot be seen from "
                f"here: {one.why}"
            )
