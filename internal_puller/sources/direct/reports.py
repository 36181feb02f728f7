"""Reports to the agent of certificates that it does not issue."""

from __future__ import annotations

from shared.contract.wire import DirectReport


def removed_report(certificate: str, names: tuple[str, ...], *, now: int) -> str:
    """Return the encoded report that a certificate is not managed here any more."""
    return (
        DirectReport(
            certificate=certificate,
            names=names,
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
