"""Things that a path names, or the refusal that says they are not there."""

from __future__ import annotations

from typing import Any

from external_agent.operator.listing import one_certificate
from external_agent.operator.problems import Refused
from external_agent.operator.services import Services
from external_agent.records.rows import CertificateRow, PullerRow
from shared.contract.errors import PolicyError

Json = dict[str, Any]


async def certificate_document(services: Services, certificate: str) -> Json:
    """
    Raises:
        Refused: there is none.
    """
    found = await one_certificate(services, certificate)
    if found is None:
        raise no_certificate(certificate)
    return found


async def certificate_row(services: Services, certificate: str) -> CertificateRow:
    """
    Raises:
        Refused: there is none, or it was removed.
    """
    row = await services.run(services.store.certificate, certificate)
    if not isinstance(row, CertificateRow) or row.removed_at is not None:
        raise no_certificate(certificate)
    return row


async def puller_row(services: Services, puller: str) -> PullerRow:
    """
    Raises:
        Refused: there is none.
    """
    row = await services.run(services.store.puller, puller)
    if not isinstance(row, PullerRow):
        raise Refused(
            "not-found",
            PolicyError(
                f"There is no puller {puller!r:.80} here.", do="See external-agent puller list."
            ),
        )
    return row


def no_certificate(certificate: str) -> Refused:
    return Refused(
        "not-found",
        PolicyError(
            f"There is no certificate {certificate!r:.80} here.",
            do="List them: external-agent status.",
        ),
    )
