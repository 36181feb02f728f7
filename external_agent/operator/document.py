"""The OpenAPI document: what FastAPI derives, with who may call what and how they say who."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from external_agent.operator.model import Fault, Problem, schema_of

_ABOUT = """The operator API of the agent. Every refusal is a problem document (RFC 9457).
`x-role` says which role a call needs: read < operate < admin. Times are unix seconds.
No call returns a private key, sealed or not."""


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """Return the document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=_ABOUT, routes=app.routes
        )
        _complete(document)
        _restore_examples(document, app)
        app.openapi_schema = document
    return app.openapi_schema


def _restore_examples(document: dict[str, Any], app: FastAPI) -> None:
    """FastAPI drops members that are null, which our answers have."""
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            call = document["paths"][route.path][method.lower()]
            for status, said in route.responses.items():
                example = said.get("content", {}).get("application/json", {}).get("example")
                if example is not None:
                    call["responses"][str(status)]["content"]["application/json"]["example"] = (
                        example
                    )


def _complete(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = schema_of(Problem)
    problem.pop("$defs", None)
    schemas |= {"Problem": problem, "Fault": schema_of(Fault)}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Made by: external-agent access create NAME --role ROLE",
        }
    }
    for path in document["paths"].values():
        for call in path.values():
            if "x-role" in call:
                call["security"] = [{"token": []}]
