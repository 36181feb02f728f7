"""Calls about certificates: look at them; add, change, remove."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi import Request as HttpRequest
from pydantic import Field
from starlette.responses import Response

from external_agent.facts.policy import certificate_id, require_ordinary, wanted_names
from external_agent.operator import examples
from external_agent.operator.answers import answer, require_match
from external_agent.operator.calls import Calls, CertificateInPath, caller_of
from external_agent.operator.found import certificate_document, certificate_row
from external_agent.operator.listing import Filter, certificate_page, every_status
from external_agent.operator.model import LARGEST_PAGE
from external_agent.operator.model import Query as Parameters
from external_agent.operator.model_action import Challenge, Change, NewCertificate
from external_agent.operator.model_certificate import (
    Certificate,
    CertificatePage,
    Directs,
    State,
    Status,
)
from external_agent.operator.problems import Fault, Refused
from external_agent.operator.services import Services
from external_agent.present.direct_view import direct_view
from external_agent.present.status_view import status_view
from external_agent.records.rows import CertificateRow
from shared.contract.errors import ConfigurationError, NameRefused, PolicyError, RelayError
from shared.contract.key_policy import KeyAlgorithm


class CertificateQuery(Parameters):
    after: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50
    name: Annotated[str, Field(max_length=255, description="Id, or one of its names.")] | None = (
        None
    )
    state: State | None = None
    puller: Annotated[str, Field(max_length=100)] | None = None
    challenge: Challenge | None = None


def certificate_calls(app: FastAPI, services: Services) -> None:
    """Add the calls."""
    calls, store = Calls(app, "certificates"), services.store
    changing = asyncio.Lock()

    @calls.read("/status", Status, examples.STATUS)
    async def status(request: HttpRequest) -> Response:
        """Everything at once: for each certificate issued, pulled, installed and served."""
        now = services.now
        direct = await services.run(store.direct_certificates)
        found = await every_status(services, now)
        return answer(request, status_view(found, now, direct, services.limits))

    @calls.read("/direct-certificates", Directs, examples.DIRECTS)
    async def list_direct_certificates(request: HttpRequest) -> Response:
        """Certificates that pullers get by themselves, as they were told."""
        now = services.now
        rows = await services.run(store.direct_certificates)
        return answer(request, {"items": [direct_view(row, now) for row in rows]})

    @calls.read("/certificates", CertificatePage, examples.CERTIFICATE_PAGE)
    async def list_certificates(
        request: HttpRequest, query: Annotated[CertificateQuery, Query()]
    ) -> Response:
        """Certificates in order of their ids, a page at a time."""
        wanted = Filter(query.name, query.state, query.puller, query.challenge)
        items, following = await certificate_page(
            services, wanted, after=query.after, limit=query.limit
        )
        return answer(request, {"now": services.now, "items": items, "next": following})

    @calls.read(
        "/certificates/{certificate}", Certificate, examples.CERTIFICATE, refusals=("not-found",)
    )
    async def get_certificate(request: HttpRequest, certificate: CertificateInPath) -> Response:
        """One certificate: wanted, issued, pulled, installed, served, and what is behind."""
        return answer(request, await certificate_document(services, certificate))

    @calls.act(
        "POST",
        "/certificates",
        status=201,
        model=Certificate,
        example=examples.CERTIFICATE,
        body=True,
        refusals=("conflict",),
    )
    async def add_certificate(request: HttpRequest, wanted: NewCertificate) -> Response:
        """Want a certificate; its puller needs an enrolment token, or a grant."""
        values = await services.run(_checked, services, wanted)
        row = await services.run(
            store.add_certificate, **values, now=services.now, actor=caller_of(request).actor
        )
        document = await certificate_document(services, row.id)
        return answer(request, document, 201, {"Location": f"/v1/certificates/{row.id}"})

    @calls.act(
        "PATCH",
        "/certificates/{certificate}",
        model=Certificate,
        example=examples.CERTIFICATE,
        body=True,
        refusals=("not-found", "conflict", "changed-meanwhile"),
    )
    async def change_certificate(
        request: HttpRequest, certificate: CertificateInPath, wanted: Change
    ) -> Response:
        """Change what is given; a new generation is wanted, and the old one serves on.

        With `If-Match` only if it is still as it was read.
        """
        async with changing:
            before = await certificate_row(services, certificate)
            require_ordinary(certificate)
            require_match(request, await certificate_document(services, certificate))
            values = await services.run(_changes, services, before, wanted)
            if values:
                await services.run(
                    store.change_certificate,
                    certificate,
                    **values,
                    now=services.now,
                    actor=caller_of(request).actor,
                )
            return answer(request, await certificate_document(services, certificate))

    @calls.act(
        "DELETE",
        "/certificates/{certificate}",
        status=204,
        refusals=("not-found", "conflict", "changed-meanwhile"),
    )
    async def remove_certificate(request: HttpRequest, certificate: CertificateInPath) -> Response:
        """Order it no more and hand it out no more; what is installed inside stays there."""
        async with changing:
            require_ordinary(certificate)
            require_match(request, await certificate_document(services, certificate))
            await services.run(
                store.remove_certificate,
                certificate,
                now=services.now,
                actor=caller_of(request).actor,
            )
            return Response(None, 204)


def _checked(services: Services, wanted: NewCertificate) -> dict[str, Any]:
    settings = services.settings()
    names = _refuse_member("names", wanted_names, wanted.names, wanted.challenge)
    identifier = _refuse_member(
        "certificate", certificate_id, names, wanted.names, wanted.certificate
    )
    cas = _cas(services, wanted.cas or [settings.acme.directory])
    _check_solver(services, wanted.challenge)
    return {
        "certificate": identifier,
        "names": names,
        "directory_url": cas[0],
        "cas": cas,
        "key_origin": wanted.key_origin,
        "key_algorithm": KeyAlgorithm(wanted.key_algorithm),
        "challenge": wanted.challenge,
        "profile": wanted.profile or settings.acme.at(cas[0]).profile,
    }


def _changes(services: Services, before: CertificateRow, wanted: Change) -> dict[str, Any]:
    """Return what differs from what is wanted already: saying the same twice changes nothing."""
    challenge = wanted.challenge or before.challenge
    texts = before.names if wanted.names is None else wanted.names
    names = tuple(sorted(_refuse_member("names", wanted_names, texts, challenge)))
    if challenge != before.challenge:
        _check_solver(services, challenge)
    algorithm = None if wanted.key_algorithm is None else KeyAlgorithm(wanted.key_algorithm)
    cas = _cas(services, wanted.cas) if wanted.cas else before.cas
    values: dict[str, tuple[Any, Any]] = {
        "names": (before.names, names),
        "challenge": (before.challenge, wanted.challenge),
        "key_origin": (before.key_origin, wanted.key_origin),
        "key_algorithm": (before.key_algorithm, algorithm),
        "profile": (before.profile or "", wanted.profile),
        "cas": (before.cas, cas),
    }
    return {
        name: after for name, (old, after) in values.items() if after is not None and after != old
    }


def _cas(services: Services, texts: list[str]) -> tuple[str, ...]:
    directory_of = services.settings().acme.directory_of
    try:
        return tuple(dict.fromkeys(directory_of(text) for text in texts))
    except ConfigurationError as error:
        more = "A running agent reads its settings again on SIGHUP."
        raise fault_of("cas", ConfigurationError(error.what, do=f"{error.do} {more}")) from error


def _check_solver(services: Services, challenge: str) -> None:
    if challenge != "http-01":
        from external_agent.orders.solvers import check_solver  # late, for it loads a good deal

        _refuse_member("challenge", check_solver, challenge, services.settings().dns01)


def _refuse_member(member: str, check: Any, *args: Any) -> Any:
    """Call ``check``; whatever it refuses is the fault of ``member``."""
    try:
        return check(*args)
    except (ConfigurationError, NameRefused, PolicyError) as error:
        raise fault_of(member, error) from error


def fault_of(member: str, error: RelayError) -> Refused:
    """Return the refusal of a request for one of its members."""
    return Refused("invalid-request", error, faults=[Fault(member, error.what)])
