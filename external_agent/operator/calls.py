"""How a call of the API is declared: who may, what it answers, every refusal it may give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path
from fastapi import Request as HttpRequest
from pydantic import BaseModel
from starlette.responses import Response

from external_agent.facts.access import Role
from external_agent.operator.callers import CALLER, Caller
from external_agent.operator.problems import TITLES, Refused
from shared.contract.errors import PolicyError
from shared.contract.wire import PROBLEM_PREFIX, PROBLEM_TYPE

CertificateInPath = Annotated[
    str, Path(description="Id of a certificate.", examples=["www.intra.example.com"])
]
PullerInPath = Annotated[str, Path(description="Id of a puller.", examples=["3f" * 32])]
TokenInPath = Annotated[str, Path(description="Id of a token.", examples=["0f1e2d3c4b5a6978"])]
_ALWAYS = ("not-authenticated", "forbidden", "host-unknown", "invalid-request",
           "too-many-failures", "unavailable")  # fmt: skip
_WITH_BODY = ("malformed-request", "body-too-large", "not-json")
_HEADERS = {
    401: {"WWW-Authenticate": "RFC 6750 section 3."},
    429: {"Retry-After": "Seconds."},
    503: {"Retry-After": "Seconds."},
}


def caller_of(request: HttpRequest) -> Caller:
    """Return who asks; the gate has let nobody else in."""
    found = getattr(request.state, CALLER, None)
    assert isinstance(found, Caller)
    return found


def _requires(role: Role) -> Callable[[HttpRequest], None]:
    def check(request: HttpRequest) -> None:
        caller = caller_of(request)
        if not caller.role.allows(role):
            error = PolicyError(
                f"This needs the role {role}; {caller.actor} has {caller.role}.",
                do=f"Make a token: external-agent access create NAME --role {role}.",
            )
            raise Refused("forbidden", error)

    return check


class Calls:
    """One part of the API.

    Args:
        tag: under which the document lists its calls.
    """

    def __init__(self, app: FastAPI, tag: str) -> None:
        self._app, self._tag = app, tag

    def read(
        self, path: str, model: type[BaseModel], example: object, *, refusals: tuple[str, ...] = ()
    ) -> Callable[[Any], Any]:
        """Declare a GET; its answers have an ETag."""
        said = _success(model, example)
        return self._declare("GET", path, Role.READ, {200: said}, refusals)

    def act(
        self,
        method: str,
        path: str,
        *,
        role: Role = Role.OPERATE,
        status: int = 200,
        model: type[BaseModel] | None = None,
        example: object = None,
        body: bool = False,
        refusals: tuple[str, ...] = ("not-found", "conflict"),
    ) -> Callable[[Any], Any]:
        """Declare a call that changes something."""
        more = (*refusals, *(_WITH_BODY if body else ()))
        said = {status: _success(model, example)}
        return self._declare(method, path, role, said, more)

    def _declare(
        self,
        method: str,
        path: str,
        role: Role,
        said: dict[int, Any],
        refusals: tuple[str, ...],
    ) -> Callable[[Any], Any]:
        responses: dict[int | str, Any] = dict(said.items())
        (status,) = said
        if method == "GET":  # each answers with an ETag
            responses[304] = {"description": "It is as the caller knows it (If-None-Match)."}
        for slug in (*_ALWAYS, *refusals):
            _document(responses, slug)

        def declare(endpoint: Any) -> Any:
            self._app.add_api_route(
                f"/v1{path}",
                endpoint,
                methods=[method],
                tags=[self._tag],
                status_code=status,
                response_model=None,
                response_class=Response,
                responses=responses,
                operation_id=endpoint.__name__,
                dependencies=[Depends(_requires(role))],
                openapi_extra={"x-role": str(role)},
            )
            return endpoint

        return declare


def _success(model: type[BaseModel] | None, example: object) -> dict[str, Any]:
    if model is None:
        return {"description": "Done; there is nothing more to say."}
    return {
        "description": (model.__doc__ or model.__name__).strip().splitlines()[0],
        "model": model,
        "content": {"application/json": {"example": example}},
    }


def _document(responses: dict[int | str, Any], slug: str) -> None:
    status, title = TITLES[slug]
    found = responses.setdefault(status, {"description": title, "content": {}})
    kind = found["content"].setdefault(
        PROBLEM_TYPE, {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
    )
    kind["examples"][slug] = {"value": problem_example(slug)}
    if status in _HEADERS:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}, "required": True}
            for name, text in _HEADERS[status].items()
        }


def problem_example(slug: str) -> dict[str, object]:
    """Return a problem document as it looks without an error behind it."""
    status, title = TITLES[slug]
    return {
        "type": PROBLEM_PREFIX + slug,
        "title": title,
        "status": status,
        "detail": f"{title}.",
    }
