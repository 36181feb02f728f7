"""The operator app: the calls of the API behind their gate, and every error a problem document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from external_agent.operator.actions import wish_calls
from external_agent.operator.certificates import certificate_calls
from external_agent.operator.diagnosis import diagnosis_calls
from external_agent.operator.document import openapi_of
from external_agent.operator.gate import Gate
from external_agent.operator.problems import Fault, Refused, problem
from external_agent.operator.pullers import puller_calls
from external_agent.operator.records import history_calls, record_calls
from external_agent.operator.services import Services
from external_agent.operator.tokens import access_calls, enrolment_calls
from shared.contract.errors import RelayError

_PARTS = (
    certificate_calls,
    wish_calls,
    history_calls,
    puller_calls,
    enrolment_calls,
    record_calls,
    diagnosis_calls,
    access_calls,
)


def operator_api(services: Services) -> FastAPI:
    """Return the app without its gate; more routes may be added to it."""
    app = FastAPI(
        title="split-horizon-relay agent",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in _PARTS:
        part(app, services)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RelayError, _explained)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign]
    return app


def behind_gate(app: FastAPI, services: Services) -> Gate:
    """Return what a listener serves."""
    return Gate(app, services)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _explained(request: Request, error: Exception) -> Response:
    assert isinstance(error, RelayError)
    return Refused(error=error).response()


async def _unexpected(request: Request, error: Exception) -> Response:
    return problem("internal")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return problem("malformed-request")
    return problem("invalid-request", faults=[_fault(one) for one in found[:20]])


def _fault(one: Any) -> Fault:
    where = ".".join(str(part) for part in one["loc"][1:])
    return Fault(where or str(one["loc"][0]), str(one["msg"])[:200])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem("method-not-allowed", headers={"Allow": _allowed(request)})
    return problem("not-found" if error.status_code == 404 else "malformed-request")


def _allowed(request: Request) -> str:
    """Return every method of a path (RFC 9110 section 10.2.1); routes hold one each."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))
