"""Certificates with everything that is known of them, page by page, read in slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.operator.services import Services
from external_agent.present.status_view import certificate_view
from external_agent.records.rows import CertificateStatus
from external_agent.store.interface import Store

Json = dict[str, Any]
_SLICE = 100


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
    found: list[Json] = await services.run(_search, services, wanted, after, limit + 1)
    shown = found[:limit]
    return shown, str(shown[-1]["certificate"]) if len(found) > limit else None


async def every_status(services: Services, now: int) -> list[CertificateStatus]:
    """Return all of them, each slice as it was at its moment."""
    found: list[CertificateStatus] = await services.run(
        lambda: list(_statuses(services, Filter(), now, ""))
    )
    return found


async def one_certificate(services: Services, certificate: str) -> Json | None:
    """Return what is known of one; ``None`` where there is none."""
    now = services.now
    for status in await services.run(services.store.status, now, only=certificate):
        return certificate_view(status, now, services.limits)
    return None


def _search(services: Services, wanted: Filter, after: str, limit: int) -> list[Json]:
    now, found = services.now, list[Json]()
    for status in _statuses(services, wanted, now, after):
        view = certificate_view(status, now, services.limits)
        if status.certificate.id != RELAY_CERTIFICATE and _matches(view, wanted):
            found.append(view)
            if len(found) == limit:
                break
    return found


def _statuses(
    services: Services, wanted: Filter, now: int, after: str
) -> Iterator[CertificateStatus]:
    """Give what may match, in slices, so that nobody waits long for the database."""
    store = services.store
    chosen = _chosen(store, wanted)
    if chosen is not None:
        for certificate in sorted(one for one in chosen if one > after):
            yield from store.status(now, only=certificate)
        return
    while page := store.status(now, after=after, limit=_SLICE):
        yield from page
        after = page[-1].certificate.id


def _chosen(store: Store, wanted: Filter) -> set[str] | None:
    """Return the few ids that can match a name or a puller; ``None`` for any."""
    chosen: set[str] | None = None
    if wanted.puller is not None:
        chosen = set(store.grants(wanted.puller))
    if wanted.name is not None:
        rows = store.certificates()
        named = {row.id for row in rows if wanted.name in (row.id, *row.names)}
        chosen = named if chosen is None else chosen & named
    return chosen


def _matches(view: Json, wanted: Filter) -> bool:
    return wanted.state in (None, view["state"]) and wanted.challenge in (None, view["challenge"])
