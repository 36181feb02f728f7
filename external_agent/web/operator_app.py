"""The operator listener: health, status and metrics, read-only, on loopback; no key is in reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from external_agent.metrics import CONTENT_TYPE, Metrics
from external_agent.store.interface import Store
from external_agent.web.status_view import status_view
from shared.errors import StoreError

Run = Callable[..., Awaitable[Any]]


def operator_app(
    store: Store,
    metrics: Metrics,
    clock: Callable[[], float],
    run: Run,
    not_ready: Callable[[], str],
) -> FastAPI:
    """Return the app.

    Args:
        clock: unix seconds.
        run: calls a function that may block.
        not_ready: says in words what keeps the agent from working, or nothing.
    """
    app = FastAPI(title="split-horizon-relay agent", version="1", docs_url=None, redoc_url=None)

    @app.exception_handler(StoreError)
    async def unavailable(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process runs and its loop turns."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> Response:
        """The database answers and the listeners are open."""
        reason = not_ready()
        if not reason:
            try:
                await run(store.certificates)
            except StoreError as error:
                reason = error.what
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

    @app.get("/v1/status")
    async def status() -> JSONResponse:
        """For each certificate: issued, pulled, installed and served, as separate facts."""
        now = int(clock())
        direct = await run(store.direct_certificates)
        return JSONResponse(status_view(await run(store.status, now), now, direct))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def numbers() -> Response:
        """For Prometheus."""
        now = int(clock())
        statuses, pullers = await run(store.status, now), await run(store.pullers)
        text = await run(metrics.render, statuses, pullers, now)
        return Response(text, media_type=CONTENT_TYPE)

    return app
