"""Reports to the agent of certificates that it does not issue."""

from __future__ import annotations

from collections.abc import Iterable

from internal_puller.install.active import read_active
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.receipts import served_entries
from internal_puller.settings.targets import Target
from internal_puller.sources.direct.record import CertificateFiles, DirectProgress
from internal_puller.sources.direct.settings import DirectSettings
from shared.contract.wire import DirectReport


def make_report(
    outcome: Outcome,
    direct: DirectSettings,
    files: CertificateFiles,
    targets: Iterable[Target],
    *,
    report_addresses: bool,
    now: int,
) -> str:
    """Return the encoded report of an outcome.

    Args:
        files: of its certificate.
        now: unix seconds.
    """
    known = files.progress() or DirectProgress()
    leaf, not_after = _leaf(outcome, known, targets)
    report = DirectReport(
        certificate=outcome.certificate,
        names=_names(outcome.certificate, direct, files),
        generation=outcome.generation,
        not_after=not_after,
        leaf_sha256=leaf,
        next_renewal=known.due_at,
        outcome=outcome.word,
        error="none" if outcome.error is None else outcome.error.type,
        served=served_entries(outcome.looks, report_addresses=report_addresses),
        at=now,
    )
    return report.encode().decode()


def removed_report(certificate: str, names: tuple[str, ...], *, now: int) -> str:
    """Return the encoded report that a certificate is not managed here any more."""
    report = DirectReport(
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
    return report.encode().decode()


def _names(certificate: str, direct: DirectSettings, files: CertificateFiles) -> tuple[str, ...]:
    wanted = {one.certificate: one.names for one in direct.certificates}
    if certificate in wanted:
        return wanted[certificate]
    issued = files.issued()
    return issued.names if issued else ()


def _leaf(
    outcome: Outcome, known: DirectProgress, targets: Iterable[Target]
) -> tuple[str | None, int]:
    if outcome.generation and known.generation == outcome.generation:
        return known.leaf_sha256, known.not_after
    for target in targets:
        if target.certificate == outcome.certificate:
            active = read_active(target)
            if active is not None and active.generation == outcome.generation:
                return active.leaf_sha256, active.not_after
    return None, 0
