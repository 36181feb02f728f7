"""Calls about what was recorded: generations, orders, receipts, events, accounts, CAs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi import Request as HttpRequest
from pydantic import Field
from starlette.responses import Response

from external_agent.operator import examples
from external_agent.operator.answers import answer
from external_agent.operator.calls import Calls, CertificateInPath
from external_agent.operator.found import no_certificate
from external_agent.operator.model import LARGEST_PAGE, MAX_NUMBER
from external_agent.operator.model import Query as Parameters
from external_agent.operator.model_record import (
    Accounts,
    AlertReceivers,
    Authorities,
    EventPage,
    GenerationPage,
    OrderPage,
    ReceiptPage,
)
from external_agent.operator.record_views import (
    account_view,
    authority_view,
    generation_view,
    order_view,
    receipt_view,
    receiver_view,
)
from external_agent.operator.services import Services

Json = dict[str, Any]
Text = Annotated[str, Field(max_length=200)]


class Page(Parameters):
    before: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | None = None
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50


class ReceiptQuery(Page):
    certificate: Text | None = None
    puller: Text | None = None


class EventQuery(ReceiptQuery):
    kind: Text | None = None


def history_calls(app: FastAPI, services: Services) -> None:
    """Add the calls about one certificate's generations and orders."""
    calls, store = Calls(app, "certificates"), services.store

    async def generations(
        certificate: CertificateInPath, query: Page
    ) -> tuple[list[Any], int | None]:
        if await services.run(store.certificate, certificate) is None:
            raise no_certificate(certificate)
        rows = await services.run(
            store.generation_page, certificate, before=query.before, limit=query.limit + 1
        )
        shown = rows[: query.limit]
        return shown, shown[-1].generation if len(rows) > len(shown) else None

    @calls.read(
        "/certificates/{certificate}/generations",
        GenerationPage,
        examples.GENERATION_PAGE,
        refusals=("not-found",),
    )
    async def list_generations(
        request: HttpRequest, certificate: CertificateInPath, query: Annotated[Page, Query()]
    ) -> Response:
        """Its generations and attempts, the newest first; also of one that was removed."""
        rows, following = await generations(certificate, query)
        items = [generation_view(row) for row in rows]
        return answer(request, {"items": items, "next": following})

    @calls.read(
        "/certificates/{certificate}/orders",
        OrderPage,
        examples.ORDER_PAGE,
        refusals=("not-found",),
    )
    async def list_orders(
        request: HttpRequest, certificate: CertificateInPath, query: Annotated[Page, Query()]
    ) -> Response:
        """Its orders at CAs step by step, the newest first."""
        rows, following = await generations(certificate, query)
        challenges = await services.run(store.challenges_of, certificate)
        items = [order_view(row, challenges) for row in rows]
        return answer(request, {"items": items, "next": following})


def record_calls(app: FastAPI, services: Services) -> None:
    """Add the calls about everything else that was recorded."""
    calls, store = Calls(app, "records"), services.store

    @calls.read("/receipts", ReceiptPage, examples.RECEIPT_PAGE)
    async def list_receipts(
        request: HttpRequest, query: Annotated[ReceiptQuery, Query()]
    ) -> Response:
        """What pullers say they installed and saw being served, the newest first."""
        rows = await services.run(
            store.receipt_page,
            before=query.before,
            limit=query.limit + 1,
            certificate=query.certificate,
            puller=query.puller,
        )
        items = [receipt_view(*row) for row in rows[: query.limit]]
        return answer(request, _page(items, len(rows), "number"))

    @calls.read("/events", EventPage, examples.EVENT_PAGE)
    async def list_events(request: HttpRequest, query: Annotated[EventQuery, Query()]) -> Response:
        """The audit trail: who did what through which token, the newest first."""
        rows = await services.run(
            store.event_page,
            before=query.before,
            limit=query.limit + 1,
            certificate=query.certificate,
            puller=query.puller,
            kind=query.kind,
        )
        items = [asdict(row) for row in rows[: query.limit]]
        return answer(request, _page(items, len(rows), "seq"))

    @calls.read("/accounts", Accounts, examples.ACCOUNTS)
    async def list_accounts(request: HttpRequest) -> Response:
        """The agent's accounts at CAs, as they were recorded."""
        rows = await services.run(store.accounts)
        return answer(request, {"items": [account_view(row) for row in rows]})

    @calls.read("/alerts", AlertReceivers, examples.ALERTS)
    async def list_alerts(request: HttpRequest) -> Response:
        """Who was told what of it by mail, chat or webhook, and whether it arrived."""
        rows = await services.run(store.alert_receivers)
        told = [await services.run(store.told_alerts, row.name) for row in rows]
        items = [receiver_view(*both) for both in zip(rows, told, strict=True)]
        return answer(request, {"items": items})

    @calls.read("/authorities", Authorities, examples.AUTHORITIES)
    async def list_authorities(request: HttpRequest) -> Response:
        """How each CA does: its last success, and its last error."""
        rows = await services.run(store.authorities)
        return answer(request, {"items": [authority_view(row) for row in rows]})


def _page(items: list[Json], found: int, number: str) -> Json:
    return {"items": items, "next": items[-1][number] if found > len(items) else None}
