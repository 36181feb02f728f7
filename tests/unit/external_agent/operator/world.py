"""The operator API in this process, over a real store, without any listener."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx

from external_agent.composition.agent import Agent
from external_agent.facts.access import Role
from external_agent.operator.app import behind_gate
from external_agent.operator.callers import LOCAL_USER
from external_agent.operator.operator_app import operator_app
from external_agent.operator.services import Services
from external_agent.orders.certificate_authority import Connector
from external_agent.present.metrics.metrics import Metrics
from external_agent.relay.enrolment import token_maker
from external_agent.settings import keys
from external_agent.store.open import open_store
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import RelayError
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    OTHER,
    FakeClock,
    RunningAgent,
    new_nonce,
    settings_in,
)

Json = dict[str, Any]
HOST = "127.0.0.1:8080"
REMOTE = "198.51.100.7"


class WillingCa:
    """Revokes whatever it is asked to, or refuses with ``error``."""

    def __init__(self) -> None:
        self.revoked: list[int] = []
        self.error: RelayError | None = None

    @contextmanager
    def connect(self, directory_url: str, sleep: object) -> Iterator[WillingCa]:
        yield self

    def revoke(self, chain_pem: bytes, reason: int) -> bool:
        if self.error is not None:
            raise self.error
        self.revoked.append(reason)
        return True


class World:
    """An agent that wants two certificates, and whoever asks it."""

    def __init__(self, directory: Path, **operator: object) -> None:
        self.clock = FakeClock()
        state = directory / "state"
        keys.make_directory(state)
        keys.make_keys(state, "relay.example.com", self.clock())
        self.settings = settings_in(state)
        self.store = open_store(self.settings.database_url)
        self.attempts: Counter[str] = Counter()
        self.ca = WillingCa()
        agent_keys = keys.load_keys(state)
        maker = token_maker(self.settings, agent_keys)
        for certificate in (CERTIFICATE, OTHER):
            self.store.add_certificate(
                certificate,
                [certificate],
                directory_url=self.settings.acme.directory,
                now=int(self.clock()),
            )
        nobody = cast(Agent, SimpleNamespace(changes=SimpleNamespace(published=lambda _: None)))
        self.agent = RunningAgent(
            nobody, self.store, self.clock, agent_keys.signing.public, maker, self.settings
        )
        self.services = Services(
            self.store,
            self.clock,
            self._run,
            settings=lambda: self.settings,
            token_maker=lambda: maker,
            authorities=lambda: cast(Connector, self.ca),
            random=secrets.token_bytes,
            observe_access=lambda outcome: self.attempts.update([outcome]),
            **operator,  # type: ignore[arg-type]
        )
        self.app = operator_app(self.services, Metrics(), lambda: "")
        self.gate = behind_gate(self.app, self.services)
        self.tokens = {role: self.token(role) for role in Role}

    @staticmethod
    async def _run(function: Any, *args: Any, **named: Any) -> Any:
        return function(*args, **named)

    def token(self, role: Role, name: str = "", lifetime: int = 3600) -> str:
        made = self.local("POST", "/v1/access-tokens", {
            "name": name or f"the {role}", "role": str(role), "lifetime": lifetime,
        })  # fmt: skip
        return str(made.json()["token"])

    def enrol(self, *certificates: str, host: str = "web1") -> str:
        """Enrol a machine; return its id."""
        return self.redeem(self.agent.token(*certificates), host=host)

    def redeem(self, token: EnrolmentToken, *, host: str = "web1") -> str:
        """Enrol a machine with a token; return its id."""
        now, signing = int(self.clock()), SigningKey.generate()
        self.store.redeem_token(
            token.key.id,
            signing_key=signing.public.public,
            sealing_key=Identity.generate().recipient.public,
            host=host,
            nonce=new_nonce(),
            now=now,
        )
        return signing.id

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        role: Role | None = Role.ADMIN,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        peer: str = REMOTE,
        state: Json | None = None,
        raw: bytes | None = None,
    ) -> httpx.Response:
        """Send one request over TCP, as ``peer`` with a token."""
        given = token if token is not None else (None if role is None else self.tokens[role])
        sent = {"Host": HOST, **({} if given is None else {"Authorization": f"Bearer {given}"})}
        sent |= headers or {}
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.gate({**scope, "state": dict(state or {})}, receive, send)

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(peer, 40000))
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.request(
                    method, f"http://{HOST}{path}", content=content, headers=sent
                )

        return asyncio.run(exchange())

    def local(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send one request as root over the socket."""
        state = {LOCAL_USER: "root", "through_socket": True}
        return self.ask(method, path, body, role=None, state=state)

    def last_event(self) -> tuple[str, str]:
        (event,) = self.store.latest_events(1)
        return event.kind, event.actor
