"""Reports to the agent of certificates that it does not issue."""

from __future__ import annotations

from internal_puller.sources.direct.settings import DirectCertificate
from shared.contract.wire import DirectReport


def removed_report(gone: DirectCertificate, *, now: int) -> str:
    """Return the encoded report that a certificate is wanted here no more."""
    return (
        DirectReport(
            certificate=gone.certificate,
            names=gone.names,
            generation=0,
            not_after=0,
            leaf_sha256=None,
            next_renewal=0,
            outcome="removed",
            error="none",
            served=(),
            at=now,
        )
        .encode()
        .decode()
    )
