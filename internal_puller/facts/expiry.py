"""Warns before a certificate in place expires, whatever the agent says or does not say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from internal_puller.install.active import Active, read_active
from internal_puller.install.layout import set_aside
from internal_puller.outbox.report import PullReport
from internal_puller.settings.targets import Target
from internal_puller.state.progress import Progress
from shared.contract.errors import ConfigurationError

# Used only where the lifetime is not known (progress.json was lost).
USUAL_LIFETIME = 90 * 86400
WITHDRAWN = "the agent does not grant it (any more), so the certificate in place is not renewed"


def warn_of_expiry(
    targets: Iterable[Target],
    progress: Progress,
    report: PullReport,
    *,
    now: float,
    share: float,
    reasons: Mapping[str, str],
) -> None:
    """Add a warning for every certificate in place with less than ``share`` of its life left.

    Args:
        reasons: certificate to why there is no newer one, where it is not the agent's matter.
    """
    for target in targets:
        try:
            active = read_active(target)
        except ConfigurationError:
            continue  # said elsewhere
        if active is None or target.certificate in report.expiring:
            continue
        lifetime = progress.of(target.certificate).lifetime or USUAL_LIFETIME
        left = active.not_after - now
        if left < share * lifetime:
            report.expiring.append(target.certificate)
            reason = reasons.get(target.certificate) or _reason(target, active, progress)
            report.warnings.append(f"{target.certificate}: {_words(left)}; {reason}")


def _words(left: float) -> str:
    if left <= 0:
        return "the certificate in place HAS EXPIRED"
    days, hours = divmod(int(left // 3600), 24)
    return f"the certificate in place expires in {days} d {hours} h"


def _reason(target: Target, active: Active, progress: Progress) -> str:
    known = progress.of(target.certificate)
    mark = set_aside(target).get(known.offered)
    if mark is not None and known.offered > active.generation:
        return (
            f"generation {known.offered} is here but set aside: {mark.what.rstrip('.')}; "
            "to install it: internal-puller pull --retry"
        )
    if known.withdrawn_at:
        return WITHDRAWN
    if progress.error is not None:
        return f"the agent cannot be reached: {progress.error.what}"
    if known.offered > active.generation:
        why = f": {known.error.what}" if known.error else ""
        return f"the agent has generation {known.offered}, which is not installed{why}"
    return "the agent has no newer one: look at external-agent status there"
