"""Calls about pullers: look at them; grant, withdraw, suspend, confirm, revoke."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi import Request as HttpRequest
from pydantic import Field
from starlette.responses import Response

from external_agent.operator import examples
from external_agent.operator.answers import answer
from external_agent.operator.calls import Calls, CertificateInPath, PullerInPath, caller_of
from external_agent.operator.found import certificate_row, puller_row
from external_agent.operator.model import LARGEST_PAGE
from external_agent.operator.model import Query as Parameters
from external_agent.operator.model_action import Suspension
from external_agent.operator.model_record import Puller, PullerPage
from external_agent.operator.services import Services
from external_agent.records.rows import PullerRow

Json = dict[str, Any]


class PullerQuery(Parameters):
    after: Annotated[str, Field(max_length=100)] = ""
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50
    status: Literal["active", "suspended", "revoked"] | None = None
    certificate: Annotated[str, Field(max_length=200)] | None = None


def puller_calls(app: FastAPI, services: Services) -> None:
    """Add the calls."""
    calls, store = Calls(app, "pullers"), services.store

    async def document(request: HttpRequest, puller: PullerInPath) -> Response:
        row = await puller_row(services, puller)
        return answer(request, puller_view(row, await services.run(store.grants, puller)))

    @calls.read("/pullers", PullerPage, examples.PULLER_PAGE)
    async def list_pullers(
        request: HttpRequest, query: Annotated[PullerQuery, Query()]
    ) -> Response:
        """The machines that fetch certificates, in order of their ids, a page at a time."""
        rows = await services.run(
            store.puller_page,
            after=query.after,
            limit=query.limit + 1,
            status=query.status,
            certificate=query.certificate,
        )
        shown = rows[: query.limit]
        grants = await services.run(store.grants_of, [row.id for row in shown])
        return answer(
            request,
            {
                "items": [puller_view(row, grants[row.id]) for row in shown],
                "next": shown[-1].id if len(rows) > len(shown) else None,
            },
        )

    @calls.read("/pullers/{puller}", Puller, examples.PULLER, refusals=("not-found",))
    async def get_puller(request: HttpRequest, puller: PullerInPath) -> Response:
        """One puller, and what it may fetch."""
        return await document(request, puller)

    @calls.act(
        "PUT",
        "/pullers/{puller}/grants/{certificate}",
        model=Puller,
        example=examples.PULLER,
    )
    async def grant(
        request: HttpRequest, puller: PullerInPath, certificate: CertificateInPath
    ) -> Response:
        """Let it fetch a certificate; one that is sealed gets a generation that it can open."""
        await puller_row(services, puller)
        await certificate_row(services, certificate)
        actor = caller_of(request).actor
        await services.run(store.grant, puller, certificate, now=services.now, actor=actor)
        return await document(request, puller)

    @calls.act(
        "DELETE",
        "/pullers/{puller}/grants/{certificate}",
        model=Puller,
        example=examples.PULLER,
    )
    async def withdraw(
        request: HttpRequest, puller: PullerInPath, certificate: CertificateInPath
    ) -> Response:
        """Take a grant back, if it is there; what was sealed to it is renewed with a new key."""
        await puller_row(services, puller)
        if certificate in await services.run(store.grants, puller):
            actor = caller_of(request).actor
            await services.run(store.withdraw, puller, certificate, now=services.now, actor=actor)
        return await document(request, puller)

    @calls.act(
        "POST",
        "/pullers/{puller}/suspend",
        model=Puller,
        example=examples.PULLER,
        body=True,
    )
    async def suspend_puller(
        request: HttpRequest, puller: PullerInPath, wanted: Suspension
    ) -> Response:
        """Hand it nothing until an operator confirms it."""
        await puller_row(services, puller)
        await services.run(
            store.suspend_puller,
            puller,
            wanted.reason,
            now=services.now,
            actor=caller_of(request).actor,
        )
        return await document(request, puller)

    @calls.act("POST", "/pullers/{puller}/confirm", model=Puller, example=examples.PULLER)
    async def confirm_puller(request: HttpRequest, puller: PullerInPath) -> Response:
        """End a suspension."""
        await puller_row(services, puller)
        actor = caller_of(request).actor
        await services.run(store.confirm_puller, puller, now=services.now, actor=actor)
        return await document(request, puller)

    @calls.act(
        "POST",
        "/pullers/{puller}/revoke",
        model=Puller,
        example=examples.PULLER,
        refusals=("not-found",),
    )
    async def revoke_puller(request: HttpRequest, puller: PullerInPath) -> Response:
        """Hand nothing to it any more, for good; what was sealed to it gets a new key."""
        await puller_row(services, puller)
        actor = caller_of(request).actor
        await services.run(store.revoke_puller, puller, now=services.now, actor=actor)
        return await document(request, puller)


def puller_view(row: PullerRow, certificates: tuple[str, ...]) -> Json:
    """Return a puller as JSON members; of its keys the ids only."""
    return {
        "puller": row.id,
        "sealing_id": row.sealing_id,
        "host": row.host,
        "status": str(row.status),
        "enrolled_at": row.enrolled_at,
        "last_seen_at": row.last_seen_at,
        "enrolment_token": row.token_id,
        "certificates": list(certificates),
    }
