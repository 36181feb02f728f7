"""An access token that ends while its request is under way: it gets nothing and changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from external_agent.facts.access import Role, digest_of
from tests.unit.external_agent.dump import dump_of
from tests.unit.external_agent.harness import CERTIFICATE, START
from tests.unit.external_agent.operator.world import HOST, REMOTE, World


def row_of(world: World, token: str) -> str:
    row = world.store.access_by_digest(digest_of(token))
    assert row is not None
    return row.id


def void(world: World, token: str) -> None:
    world.store.void_access(row_of(world, token), now=START, actor="a test")


def scope_of(method: str, path: str, token: str, body: bytes) -> dict[str, Any]:
    headers = {
        "host": HOST,
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "client": (REMOTE, 1),
        "server": ("127.0.0.1", 8080),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def ask_slowly(world: World, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
    """Ask, and let the token end after the gate has let the request in."""
    sent: list[Message] = []

    async def receive() -> Message:
        void(world, token)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(world.gate(scope_of(method, path, token, body), receive, send))
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent)


def changing(world: World) -> Iterator[tuple[str, str]]:
    for route in world.app.routes:
        if isinstance(route, Route) and route.path.startswith("/v1/"):
            for method in (route.methods or set()) - {"GET", "HEAD"}:
                yield method, route.path


def test_every_call_that_changes_something(world: World) -> None:
    found = list(changing(world))
    assert len(found) >= 10
    for number, (method, pattern) in enumerate(found):
        token = world.token(Role.ADMIN, f"slow {number}")
        path = pattern.replace("{certificate}", CERTIFICATE).replace("{", "").replace("}", "")
        before = world.store.access_tokens()
        events = len(world.store.events())
        status, _ = ask_slowly(world, method, path, token, json.dumps({"a": 1}).encode())
        assert status == 401, (method, path)
        assert len(world.store.events()) == events + 1, "there is more than the end of the token"
        assert len(world.store.access_tokens()) == len(before)


@pytest.fixture
def token(world: World) -> str:
    return world.token(Role.ADMIN, "the one that ends")


@pytest.mark.parametrize("end", ["voided", "expired"])
def test_an_answer_that_took_its_time_does_not_leave(
    world: World, token: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    async def endpoint(request: Request) -> Response:
        if end == "voided":
            void(world, token)
        else:
            world.clock.now += 4000
        return PlainTextResponse("secret")

    monkeypatch.setattr(
        world.app.router, "routes", [*world.app.routes, Route("/v1/slow", endpoint)]
    )
    said = world.ask("GET", "/v1/slow", token=token)
    assert (said.status_code, "secret" in said.text) == (401, False)
    assert 'error="invalid_token"' in said.headers["www-authenticate"]


def test_a_change_decides_in_its_own_transaction(
    world: World, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: dict[str, list[tuple[object, ...]]] = {}

    async def endpoint(request: Request) -> Response:
        void(world, token)
        after.update(dump_of(world.store))
        world.store.request_renewal(CERTIFICATE, "why", now=START, actor="a test")
        return PlainTextResponse("done")

    monkeypatch.setattr(
        world.app.router, "routes", [*world.app.routes, Route("/v1/late", endpoint)]
    )
    assert world.ask("GET", "/v1/late", token=token).status_code == 401
    assert after and dump_of(world.store) == after


def test_who_voids_their_own_token_is_told_so(world: World, token: str) -> None:
    path = f"/v1/access-tokens/{row_of(world, token)}"
    assert world.ask("DELETE", path, token=token).status_code == 200
    assert world.ask("DELETE", path, token=token).status_code == 401
