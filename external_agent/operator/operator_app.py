"""The operator listener: health, numbers, and the operator API behind one gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from external_agent.facts.issues import Concern
from external_agent.operator.app import operator_api
from external_agent.operator.services import Services
from external_agent.present.metrics.metrics import CONTENT_TYPE, Metrics
from shared.contract.errors import StoreError


def operator_app(
    services: Services,
    metrics: Metrics,
    not_ready: Callable[[], str],
    concerns: Callable[[], Iterable[Concern]] = tuple,
) -> FastAPI:
    """Return the app, to be put behind the gate.

    Args:
        not_ready: says in words what keeps the agent from working, or nothing.
        concerns: what needs somebody; may block.
    """
    app = operator_api(services)
    store, run = services.store, services.run

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        """The process runs and its loop turns."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """The database answers and the listeners are open."""
        reason = not_ready()
        if not reason:
            try:
                await run(store.change_counter)
            except StoreError as error:
                reason = error.what
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

    @app.get("/metrics", include_in_schema=False)
    async def numbers() -> Response:
        """For Prometheus."""
        now = services.now
        statuses, pullers = await run(store.status, now), await run(store.pullers)
        needs = await run(concerns)
        text = await run(metrics.render, statuses, pullers, now, needs)
        return Response(text, media_type=CONTENT_TYPE)

    return app
