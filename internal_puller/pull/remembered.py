"""What is remembered of each certificate follows what is offered and what has a target; no I/O.

An agent that offers less takes nothing along that protects from it: the last accepted generations
and the rule of own keys are kept elsewhere, and no listing reaches them (docs/decisions/0025).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from internal_puller.state.progress import CertificateProgress, Progress
from shared.contract.wire import Offer


def without_target(progress: Progress, here: Collection[str]) -> list[str]:
    """Return the certificates whose last target is gone, and of which that is still to be told."""
    return [
        certificate
        for certificate, one in progress.certificates.items()
        if one.target == "here" and certificate not in here
    ]


def forget(progress: Progress, certificate: str, receipt: str | None) -> None:
    """Keep nothing of how a certificate stood here but that its target was removed.

    Args:
        receipt: what the agent is to be told of it; ``None`` if nobody is.
    """
    before = progress.of(certificate)
    progress.certificates[certificate] = CertificateProgress(
        offered=before.offered,
        key_origin=before.key_origin,
        target="removed",
        receipt=receipt,
        direct=before.direct,
    )


def follow(
    progress: Progress,
    offers: Iterable[Offer],
    here: Collection[str],
    own: Collection[str],
    *,
    now: int,
) -> None:
    """Take a list of the agent over, and forget what is neither offered nor has a target.

    Args:
        here: certificates with a target that are the agent's to hand out.
        own: those that this machine gets by itself.
        now: unix seconds.
    """
    offered = {offer.certificate: offer for offer in offers}
    for certificate, offer in offered.items():
        mine = progress.of(certificate)
        mine.offered, mine.withdrawn_at = offer.generation, 0
        mine.key_origin, mine.csr_wanted = offer.key_origin, offer.csr_wanted
    for certificate in here:
        progress.of(certificate).target = "here"
        if certificate not in offered:
            _withdraw(progress.of(certificate), now)
    for certificate, one in list(progress.certificates.items()):
        told = not (one.direct and one.receipt)  # of the agent's, it takes no receipt any more
        if told and not any(certificate in kept for kept in (offered, here, own)):
            del progress.certificates[certificate]


def _withdraw(one: CertificateProgress, now: int) -> None:
    """The agent takes no receipt of it; should it offer it again, it is told anew."""
    one.withdrawn_at = one.withdrawn_at or now
    one.offered, one.csr_wanted, one.csr_error = 0, False, ""
    one.error, one.fault, one.reported = None, "", 0
    if not one.direct:
        one.receipt = None
