"""Certificates with everything that is known of them, page by page.

The one place that asks the store for them: a leaner query takes its place here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from external_agent.domain.policy import RELAY_CERTIFICATE
from external_agent.operator.services import Services
from external_agent.web.status_view import certificate_view

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; ``None`` is anything."""

    name: str | None = None
    state: str | None = None
    puller: str | None = None
    challenge: str | None = None


async def certificate_page(
    services: Services, wanted: Filter, *, after: str, limit: int
) -> tuple[list[Json], str | None]:
    """Return one page in order of id, above ``after``, and where the next one begins."""
    now = services.now
    found = []
    for status in await services.run(services.store.status, now):
        row = status.certificate
        if row.id == RELAY_CERTIFICATE or row.id <= after:
            continue
        view = certificate_view(status, now)
        if _matches(view, wanted):
            found.append(view)
            if len(found) > limit:
                break
    more = len(found) > limit
    return found[:limit], str(found[limit - 1]["certificate"]) if more else None


async def one_certificate(services: Services, certificate: str) -> Json | None:
    """Return what is known of one; ``None`` where there is none."""
    now = services.now
    for status in await services.run(services.store.status, now):
        if status.certificate.id == certificate:
            return certificate_view(status, now)
    return None


def _matches(view: Json, wanted: Filter) -> bool:
    return (
        (wanted.name is None or wanted.name in (view["certificate"], *view["names"]))
        and wanted.state in (None, view["state"])
        and wanted.challenge in (None, view["challenge"])
        and (
            wanted.puller is None or any(one["puller"] == wanted.puller for one in view["pullers"])
        )
    )
