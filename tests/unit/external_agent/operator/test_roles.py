"""Who may call what: every call of the document with every role, so that none can escape."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import APIRoute

from external_agent.facts.access import Role
from external_agent.operator.app import operator_api
from external_agent.operator.services import Services
from tests.unit.external_agent.operator.world import World

NOT_IN_THE_DOCUMENT = {"/healthz", "/readyz", "/metrics"}
DOCUMENT = operator_api(Services(*[None] * 7)).openapi()  # type: ignore[arg-type]
CALLS = [
    (method.upper(), path, Role(call["x-role"]))
    for path, methods in DOCUMENT["paths"].items()
    for method, call in methods.items()
]


@pytest.mark.parametrize(("method", "path", "needed"), CALLS)
def test_every_call_with_every_role(world: World, method: str, path: str, needed: Role) -> None:
    concrete = re.sub(r"\{\w+\}", "nothing", path)
    said = world.ask(method, concrete, role=None)
    assert (said.status_code, said.json()["type"].rsplit(":", 1)[1]) == (401, "not-authenticated")
    for role in Role:
        said = world.ask(method, concrete, role=role)
        if list(Role).index(role) < list(Role).index(needed):
            assert said.status_code == 403, role
            assert said.json()["type"].endswith(":forbidden")
            assert f"role {needed}" in said.json()["detail"]
        else:
            assert said.status_code not in (401, 403, 405, 500), role


def test_no_call_is_missing_from_the_document(world: World) -> None:
    routes = {
        (method, route.path)
        for route in world.app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert {(method, path) for method, path, _ in CALLS} == {
        one for one in routes if one[1] not in NOT_IN_THE_DOCUMENT
    }
    assert {path for _, path in routes} >= NOT_IN_THE_DOCUMENT


def test_reading_is_all_that_get_does() -> None:
    assert {role for method, path, role in CALLS if method == "GET"} <= {Role.READ, Role.ADMIN}
    assert all(role != Role.READ for method, _, role in CALLS if method != "GET")


@pytest.mark.parametrize("role", Role)
def test_numbers_need_a_token_too(world: World, role: Role) -> None:
    assert world.ask("GET", "/metrics", role=None).status_code == 401
    assert world.ask("GET", "/metrics", role=role).status_code == 200
    assert world.ask("GET", "/healthz", role=None).status_code == 200
    assert world.ask("GET", "/readyz", role=None).status_code == 200
    assert world.ask("GET", "/openapi.json", role=None).status_code == 200
