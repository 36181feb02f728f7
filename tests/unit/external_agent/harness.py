"""A running agent on ephemeral ports, and a client that signs by hand and may lie."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from external_agent.composition.agent import Agent, open_sockets
from external_agent.composition.changes import MakeWorker
from external_agent.records.rows import IssuedLeaf, PreparedBundle, PreparedKey
from external_agent.relay.enrolment import TokenMaker
from external_agent.settings import keys
from external_agent.settings.config import Settings, settings_from
from external_agent.store.open import SqlStore, open_store
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import AnswerUnauthenticated
from shared.contract.http_signatures import SignedTarget, sign_request, verify_response
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.wire import ENROLMENTS_PATH, EnrolmentRequest, Problem

CERTIFICATE = "www.intra.example.com"
OTHER = "app.example.org"
AUTHORITY = "relay.example.com:8443"
START = 1_800_000_000


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


class FakeClock:
    """Unix seconds that move only when told."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def settings_in(directory: Path, **relay: object) -> Settings:
    return settings_from(
        {
            "state_directory": str(directory),
            "acme": {"directory": "https://ca.example.com/directory", "terms_agreed": True},
            "challenge": {"listen": ["127.0.0.1:0", "[::1]:0"]},
            "relay": {"url": f"https://{AUTHORITY}", "listen": ["127.0.0.1:0"], **relay},
            "operator": {"listen": ["127.0.0.1:0"], "open_read": True},
        },
        source="the test",
    )


@dataclass
class RunningAgent:
    """An agent in a thread of its own."""

    agent: Agent
    store: SqlStore
    clock: FakeClock
    key: VerifyKey
    maker: TokenMaker
    settings: Settings

    def port(self, listener: str, index: int = 0) -> int:
        return self.agent.bound()[listener][index][1]

    def token(self, *certificates: str, lifetime: int = 3600) -> EnrolmentToken:
        return self.maker.make(self.store, certificates, now=int(self.clock()), lifetime=lifetime)

    def enrolled(self, *certificates: str, host: str = "web1") -> Client:
        client = Client(self, host=host)
        answer = client.enrol(self.token(*certificates))
        assert answer.status == 200, answer.body
        return client

    def publish(self, certificate: str, *, not_after: int = START + 90 * 86400) -> int:
        """Walk one generation through the store, with stand-in bytes for keys and chain."""
        now = int(self.clock())
        others = [one.id for one in self.store.certificates() if one.id != certificate]
        (claim,) = self.store.claim_due("test", now=now, lease_seconds=60, exclude=others)
        generation = self.store.choose_generation(certificate, now=now)
        row = self.store.certificate(certificate)
        assert row is not None
        recipients = [one.id for one in self.store.recipients(certificate)]
        spki = hashlib.sha256(str(generation).encode()).hexdigest()
        prepared = PreparedKey(b"CSR", spki, dict.fromkeys(recipients, b"sealed"))
        self.store.commit_prepared(claim, generation, prepared, now=now, wanted=row.wanted)
        self.store.commit_order(claim, generation, f"https://ca.example.com/{generation}", None)
        self.store.commit_state(claim, generation, None)
        self.store.commit_state(claim, generation, "https://ca.example.com/cert")
        leaf = IssuedLeaf("CHAIN", spki, "01", now, not_after, now)
        bundles = [
            PreparedBundle(one, spki, f'{{"for":"{one[:8]}","of":"{certificate}"}}'.encode())
            for one in recipients
        ]
        self.store.publish(claim, generation, leaf, bundles, due_at=now + 60 * 86400, now=now)
        self.store.release(claim)
        self.agent.changes.published(certificate)
        return generation


@contextmanager
def running_agent(
    directory: Path,
    *certificates: str,
    clock: FakeClock | None = None,
    make_worker: MakeWorker | None = None,
    settings: Settings | None = None,
) -> Iterator[RunningAgent]:
    own_clock = clock or FakeClock()
    state = directory / "state"
    own = settings or settings_in(state)
    keys.make_directory(state)
    keys.make_keys(state, "relay.example.com", time.time())
    store = open_store(own.database_url)
    for certificate in certificates:
        store.add_certificate(
            certificate,
            [certificate],
            directory_url=own.acme.directory,
            now=int(own_clock()),
        )
    agent_keys = keys.load_keys(state)
    agent = Agent(
        own,
        store,
        agent_keys,
        open_sockets(own, {}),
        clock=own_clock,
        make_worker=make_worker,
    )
    ready = threading.Event()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            uvloop.run(agent.serve(ready.set))
        except BaseException as error:  # shown by the test that waits
            ended.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="agent")
    thread.start()
    try:
        assert ready.wait(20)
        assert not ended, ended
        public = agent_keys.signing.public
        maker = TokenMaker(own.relay.url, public, keys.token_pin(own))
        yield RunningAgent(agent, store, own_clock, public, maker, own)
    finally:
        agent.stop()
        thread.join(30)
        store.close()
        assert not thread.is_alive()
        assert not ended, ended


@dataclass
class Answer:
    """What came back, and whether the agent signed it for this very request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    signed: bool

    @property
    def slug(self) -> str:
        return Problem.decode(self.body).slug

    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass
class Draft:
    """A request about to be sent; a test may change anything in it after it was signed."""

    method: str
    path: str
    query: str
    body: bytes
    headers: dict[str, str]
    host: str = AUTHORITY
    more_headers: list[tuple[str, str]] = field(default_factory=list)
    raw_body: bytes | None = None


Edit = Callable[[Draft], None]


def _nothing(draft: Draft) -> None:
    return None


def new_nonce() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


class Client:
    """A puller made by hand."""

    def __init__(self, running: RunningAgent, host: str = "web1") -> None:
        self.running = running
        self.host = host
        self.signing = SigningKey.generate()
        self.identity = Identity.generate()
        self.authority = AUTHORITY

    @property
    def id(self) -> str:
        return self.signing.id

    def offer(self) -> EnrolmentRequest:
        return EnrolmentRequest(
            self.signing.public.public,
            self.identity.recipient.public,
            self.host,
            int(self.running.clock()),
        )

    def enrol(self, token: EnrolmentToken, *, edit: Edit = _nothing, **named: object) -> Answer:
        signers = {"token": token.key, "shr": self.signing}
        return self.send(
            "POST", ENROLMENTS_PATH, self.offer().encode(), signers=signers, edit=edit, **named
        )

    def get(self, path: str, query: str = "", **named: object) -> Answer:
        return self.send("GET", path, query=query, **named)

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: str = "",
        signers: Mapping[str, SigningKey] | None = None,
        created: int | None = None,
        nonce: str | None = None,
        edit: Edit = _nothing,
        timeout: float = 30,
        listener: str = "relay",
    ) -> Answer:
        draft = self.draft(
            method, path, body, query=query, signers=signers, created=created, nonce=nonce
        )
        edit(draft)
        return self.exchange(draft, timeout=timeout)

    def draft(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: str = "",
        signers: Mapping[str, SigningKey] | None = None,
        created: int | None = None,
        nonce: str | None = None,
    ) -> Draft:
        target = SignedTarget(method, self.authority, path, query)
        headers = sign_request(
            target,
            body,
            signers or {"shr": self.signing},
            created=int(self.running.clock()) if created is None else created,
            nonce=nonce or new_nonce(),
        )
        return Draft(method, path, query, body, headers)

    def connect(self, timeout: float = 30) -> http.client.HTTPSConnection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(
            "127.0.0.1", self.running.port("relay"), context=context, timeout=timeout
        )

    def exchange(self, draft: Draft, timeout: float = 30) -> Answer:
        connection = self.connect(timeout)
        try:
            target = draft.path + (f"?{draft.query}" if draft.query else "")
            connection.putrequest(draft.method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", draft.host)
            for name, value in (*draft.headers.items(), *draft.more_headers):
                connection.putheader(name, value)
            body = draft.body if draft.raw_body is None else draft.raw_body
            if body or draft.method in ("POST", "PUT"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            data = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, data, self._signed(draft, response, data))
        finally:
            connection.close()

    def _signed(self, draft: Draft, response: http.client.HTTPResponse, body: bytes) -> bool:
        headers = {name.lower(): value for name, value in response.getheaders()}
        if "signature" not in headers:
            return False
        labels = draft.headers["Signature"].split(", ")
        own = next(part for part in labels if part.startswith("shr="))
        raw = base64.b64decode(own.removeprefix("shr=:").removesuffix(":"))
        try:
            verify_response(response.status, headers, body, raw, self.running.key)
        except AnswerUnauthenticated:
            return False
        return True


def raw_exchange(port: int, data: bytes, *, family: str = "127.0.0.1", end: bool = True) -> bytes:
    """Send octets to the challenge listener and read until it closes."""
    with socket.create_connection((family, port), timeout=10) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
        return bytes(received)
