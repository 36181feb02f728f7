"""Who may call what: every call of the document with every role, so that none can escape."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import APIRoute

from external_agent.facts.access import Role
from external_agent.operator.app import operator_api
from external_agent.operator.services import Services
from shared.contract.enrolment_token import EnrolmentToken
from tests.unit.external_agent.harness import CERTIFICATE, OTHER
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


def test_admin_alone_makes_access_and_orders_everything() -> None:
    """The matrix that docs/api.md gives in words: whoever moves a call changes what a token is."""
    assert {(method, path) for method, path, role in CALLS if role == Role.ADMIN} == {
        ("GET", "/v1/access-tokens"),
        ("POST", "/v1/access-tokens"),
        ("DELETE", "/v1/access-tokens/{token_id}"),
        ("POST", "/v1/renewals"),
    }


@pytest.mark.parametrize("name", [CERTIFICATE, "new.intra.example.com"])
def test_what_an_operate_token_is_worth(world: World, name: str) -> None:
    """The next key of any certificate, and a certificate for any name that the agent can prove.

    docs/security.md says so, with what it does not reach.
    """
    owner = world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    before = world.store.certificate(CERTIFICATE)
    assert before is not None and before.wanted == before.satisfied
    world.ask("POST", "/v1/certificates", {"names": [name]}, role=Role.OPERATE)
    body = {"certificates": [name]}
    made = world.ask("POST", "/v1/enrolment-tokens", body, role=Role.OPERATE)
    assert made.status_code == 201, made.text
    thief = world.redeem(EnrolmentToken.decode(made.json()["token"], now=world.clock()))
    row = world.store.certificate(name)
    assert row is not None and row.wanted > row.satisfied  # ordered anew, for the thief as well
    assert thief in {one.id for one in world.store.recipients(name)}
    assert {one.id for one in world.store.recipients(CERTIFICATE)} >= {owner}
    actors = {event.kind: event.actor for event in world.store.events()}
    assert actors["token-created"] == "token the operate"  # it does not go unseen
    for role, asked in ((Role.READ, "/v1/enrolment-tokens"), (Role.OPERATE, "/v1/access-tokens")):
        said = world.ask("POST", asked, {**body, "name": "x", "role": "admin"}, role=role)
        assert said.status_code == 403


def test_what_it_makes_outlives_an_operate_token(world: World) -> None:
    """Voiding the token is not enough: the machines that were let in with it stay."""
    made = world.ask("POST", "/v1/enrolment-tokens", {"certificates": [OTHER]}, role=Role.OPERATE)
    thief = world.redeem(EnrolmentToken.decode(made.json()["token"], now=world.clock()))
    listed = world.ask("GET", "/v1/access-tokens").json()["items"]
    (mine,) = [one["token_id"] for one in listed if one["name"] == "the operate"]
    assert world.ask("DELETE", f"/v1/access-tokens/{mine}").status_code == 200
    assert world.ask("GET", "/v1/me", role=Role.OPERATE).status_code == 401
    assert thief in {one.id for one in world.store.recipients(OTHER)}
    assert world.ask("POST", f"/v1/pullers/{thief}/revoke").status_code == 200
    assert world.store.recipients(OTHER) == []


@pytest.mark.parametrize("role", Role)
def test_numbers_need_a_token_too(world: World, role: Role) -> None:
    assert world.ask("GET", "/metrics", role=None).status_code == 401
    assert world.ask("GET", "/metrics", role=role).status_code == 200
    assert world.ask("GET", "/healthz", role=None).status_code == 200
    assert world.ask("GET", "/readyz", role=None).status_code == 200
    assert world.ask("GET", "/openapi.json", role=None).status_code == 200
