"""Every route of the relay API but enrolment: who may not call gets nothing and writes nothing.

A route that is added is in the table, and so in every test here.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from external_agent.doctor.doctor import Doctor
from external_agent.doctor.halves import heard
from external_agent.facts import quotas
from external_agent.records.model import PullerStatus
from external_agent.relay.admission import CERTIFICATE as PARAMETER
from external_agent.relay.rehearsal import Rehearsals
from external_agent.relay.relay_app import RelayApp
from shared.contract.batches import encode_batch
from shared.contract.diagnosis import DOCTOR_PATH, Half, NameSeen
from shared.contract.http_signatures import CLOCK_TOLERANCE
from shared.contract.rehearsal import State
from shared.contract.wire import (
    CERTIFICATES_PATH,
    DIRECT_PATH,
    ENROLMENTS_PATH,
    RECEIPTS_PATH,
    DirectReport,
    Listing,
    Receipt,
    csr_path,
    rehearsal_path,
)
from tests.unit.external_agent.dump import dump_of
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    OTHER,
    START,
    Answer,
    Client,
    Draft,
    RunningAgent,
    new_nonce,
    running_agent,
    wait_until,
)


def direct_report(generation: int) -> str:
    report = DirectReport(
        OTHER, (OTHER,), generation, 0, None, 0, "failed", "unexpected", (), START
    )
    return report.encode().decode()


HALF = Half("puller", "web1", START, names=(NameSeen(CERTIFICATE, (), False),)).encode()
BODIES = {
    RECEIPTS_PATH: encode_batch(
        "receipts",
        [
            Receipt(CERTIFICATE, START - 1000, "ab" * 32, "installed", "none", (), START)
            .encode()
            .decode()
        ],
    ),
    DIRECT_PATH: encode_batch("reports", [direct_report(0)]),
    DOCTOR_PATH: HALF,
}
"""A good body for each path that wants one: what is refused, is for no other reason."""


class _Rehearsals(Rehearsals):
    """Every one is done at once; nothing is ordered."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, certificate: str, puller: str) -> State:
        self.begun.append(puller)
        return State("running", "https://staging.example.com/directory")

    def state(self, certificate: str, puller: str) -> tuple[State, bytes | None]:
        return State("done", "https://staging.example.com/directory"), b'{"a":"bundle"}'


def relay_of(running: RunningAgent) -> RelayApp:
    """What answers the calls."""
    route = app_of(running).routes[0]
    assert isinstance(route, Route)
    found = route.endpoint.__self__
    assert isinstance(found, RelayApp)
    return found


def app_of(running: RunningAgent) -> Starlette:
    """The routes, as the listener has them."""
    found = running.agent._relay._server.config.app._app  # type: ignore[union-attr]
    assert isinstance(found, Starlette)
    return found


@pytest.fixture(scope="module")
def whole_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """An agent that offers every call; examining and rehearsing take no time."""
    patch = pytest.MonkeyPatch()
    seen = Half("agent", "vm", START, names=(NameSeen(CERTIFICATE, (), False),))
    patch.setattr(Doctor, "examine", lambda self, certificates=(): seen)
    with running_agent(tmp_path_factory.mktemp("whole"), CERTIFICATE, OTHER) as running:
        relay_of(running)._rehearsals = _Rehearsals()
        yield running
    patch.undo()


@pytest.fixture
def client(whole_agent: RunningAgent) -> Client:
    """A puller with one grant, new for each test."""
    return whole_agent.enrolled(CERTIFICATE)


def calls(running: RunningAgent) -> list[tuple[str, str]]:
    """Return method and path pattern of every call but enrolment."""
    found = []
    for route in app_of(running).routes:
        assert isinstance(route, Route)
        assert set(route.param_convertors) <= {PARAMETER}, "its grant would not be looked at"
        methods = (route.methods or set()) - {"HEAD"}
        found += [(method, route.path) for method in methods if route.path != ENROLMENTS_PATH]
    assert len(found) >= 8
    return sorted(found)


def draft_of(client: Client, call: tuple[str, str], nonce: str | None = None) -> Draft:
    method, pattern = call
    path = pattern.replace(f"{{{PARAMETER}}}", CERTIFICATE)
    body = b"" if method == "GET" else BODIES.get(path, b"{}")
    return client.draft(method, path, body, nonce=nonce)


def ask_all(client: Client) -> Iterator[tuple[tuple[str, str], Answer]]:
    for call in calls(client.running):
        yield call, client.exchange(draft_of(client, call))


def test_an_active_puller_is_not_kept_out(client: Client) -> None:
    client.running.publish(CERTIFICATE)
    answers = dict(ask_all(client))
    refused = {call: answer.body for call, answer in answers.items() if answer.status != 200}
    assert {path.rpartition("/")[2] for _, path in refused} == {"csr"}, refused  # no CSR wanted


@pytest.mark.parametrize("state", ["puller-suspended", "puller-revoked"])
def test_who_is_not_active_gets_nothing_and_writes_nothing(client: Client, state: str) -> None:
    store = client.running.store
    if state == "puller-revoked":
        store.revoke_puller(client.id, now=START)
    else:
        store.suspend_puller(client.id, "a test", now=START)
    before = dump_of(store)
    for call, answer in ask_all(client):
        assert (answer.status, answer.signed, answer.slug) == (403, True, state), call
        assert CERTIFICATE.encode() not in answer.body
    for path in ("/v1/no-such-call", "/"):
        assert client.get(path).slug == state
    assert dump_of(store) == before


def test_a_certificate_in_the_path_has_to_be_granted(whole_agent: RunningAgent) -> None:
    stranger = whole_agent.enrolled(OTHER)
    before = dump_of(whole_agent.store)
    asked = 0
    for call, answer in ask_all(stranger):
        if f"{{{PARAMETER}}}" in call[1]:
            asked += 1
            assert (answer.status, answer.signed) == (404, True), call
            assert answer.slug == "certificate-unknown", call
            assert dump_of(whole_agent.store) == before, call
        before = dump_of(whole_agent.store)
    assert asked >= 4
    told = stranger.send("POST", RECEIPTS_PATH, BODIES[RECEIPTS_PATH])
    (refused,) = json.loads(told.body)["refused"]
    assert (told.status, refused["type"]) == (200, "certificate-unknown")


def test_a_nonce_is_used_once_whatever_is_called(client: Client) -> None:
    """Also at another call."""
    running = client.running
    changing = [call for call in calls(running) if call[0] != "GET"]
    assert len(changing) >= 5
    for call in changing:
        nonce = new_nonce()
        client.exchange(draft_of(client, call, nonce))
        before = dump_of(running.store)
        for other in changing:
            again = client.exchange(draft_of(client, other, nonce))
            assert (again.status, again.signed, again.slug) == (409, True, "replayed-nonce"), call
        assert dump_of(running.store) == before, call


def test_missing_credentials(client: Client) -> None:
    running = client.running
    stranger = Client(running)
    before = dump_of(running.store)
    for call in [*calls(running), ("POST", ENROLMENTS_PATH)]:
        unsigned = draft_of(client, call)
        unsigned.headers = {}
        answer = client.exchange(unsigned)
        assert (answer.status, answer.signed, answer.slug) == (400, False, "signature-malformed")
        answer = stranger.exchange(draft_of(stranger, call))
        assert not answer.signed
        assert answer.slug in ("not-authenticated", "signature-malformed"), call
    assert dump_of(running.store) == before


def test_a_new_route_is_guarded_without_asking_for_it(client: Client) -> None:
    reached = []

    async def endpoint(request: Request) -> Response:
        reached.append(request.url.path)
        return PlainTextResponse("secret")

    running, routes = client.running, app_of(client.running).routes
    added = [
        Route("/v1/new", endpoint, methods=["GET", "POST"]),
        Route(f"{CERTIFICATES_PATH}/{{{PARAMETER}}}/new", endpoint, methods=["GET", "POST"]),
    ]
    routes.extend(added)
    try:
        nonce, stranger = new_nonce(), running.enrolled(OTHER)
        for one in added:
            path = one.path.replace(f"{{{PARAMETER}}}", CERTIFICATE)
            assert client.get(path).body == b"secret"
        assert client.send("POST", "/v1/new", b"{}", nonce=nonce).status == 200
        assert client.send("POST", "/v1/new", b"{}", nonce=nonce).slug == "replayed-nonce"
        assert stranger.get(f"{CERTIFICATES_PATH}/{CERTIFICATE}/new").slug == "certificate-unknown"
        assert not Client(running).get("/v1/new").signed
        count = len(reached)
        running.store.suspend_puller(client.id, "a test", now=START)
        assert client.get("/v1/new").slug == "puller-suspended"
        running.store.revoke_puller(client.id, now=START)
        assert client.send("POST", "/v1/new", b"{}").slug == "puller-revoked"
        assert len(reached) == count
    finally:
        del routes[-len(added) :]


# --- what took its time ----------------------------------------------------------------------

Change = Callable[[RunningAgent, str], None]
CHANGES: dict[str, tuple[Change, str]] = {
    "revoked": (lambda running, one: running.store.revoke_puller(one, now=START), "puller-revoked"),
    "suspended": (
        lambda running, one: running.store.suspend_puller(one, "a test", now=START),
        "puller-suspended",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("named", [False, True])
def test_a_request_on_its_way_is_refused_at_its_end(
    client: Client, change: str, named: bool
) -> None:
    """Whatever is called: the route's own code knows nothing of it."""
    running, inside, go_on = client.running, threading.Event(), threading.Event()

    async def endpoint(request: Request) -> Response:
        inside.set()
        await asyncio.get_running_loop().run_in_executor(None, go_on.wait, 20)
        return PlainTextResponse("secret")

    path = f"{CERTIFICATES_PATH}/{CERTIFICATE}/slow" if named else "/v1/slow"
    pattern = path.replace(CERTIFICATE, f"{{{PARAMETER}}}")
    app_of(running).routes.append(Route(pattern, endpoint, methods=["GET"]))
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.get, path)
            assert inside.wait(10)
            act, slug = CHANGES[change]
            act(running, client.id)
            go_on.set()
            assert (answer.result(20).slug, answer.result().signed) == (slug, True)
            assert b"secret" not in answer.result().body
    finally:
        go_on.set()
        app_of(running).routes.pop()


@pytest.mark.parametrize("change", CHANGES)
def test_a_parked_poll(client: Client, change: str) -> None:
    since = Listing.decode(client.get(CERTIFICATES_PATH).body).version
    running = client.running
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(client.get, CERTIFICATES_PATH, f"since={since}&wait=50")
        wait_until(lambda: running.agent._bell.waiting == 1)
        act, slug = CHANGES[change]
        act(running, client.id)
        assert poll.result(20).slug == slug


@pytest.mark.parametrize("change", CHANGES)
def test_an_examination_under_way(
    client: Client, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, inside, go_on = client.running, threading.Event(), threading.Event()

    def examine(certificates: object = ()) -> Half:
        inside.set()
        go_on.wait(20)
        return Half("agent", "vm", START, names=(NameSeen(CERTIFICATE, (), False),))

    relay = relay_of(running)
    monkeypatch.setattr(relay._doctor, "_examine", examine)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.send, "POST", DOCTOR_PATH, HALF)
        assert inside.wait(10)
        act, slug = CHANGES[change]
        act(running, client.id)
        before = dump_of(running.store)
        go_on.set()
        assert answer.result(20).slug == slug
    assert dump_of(running.store) == before
    assert client.id not in [puller for puller, _ in relay._halves.all()]


def test_what_it_wrote_to_a_diagnosis_disappears(client: Client) -> None:
    """And is back when an operator has confirmed it."""
    running, relay = client.running, relay_of(client.running)
    assert client.send("POST", DOCTOR_PATH, HALF).status == 200

    def is_heard() -> bool:
        found = heard(relay._halves, {CERTIFICATE}, running.store.names_spoken_of)
        return any(one.host == "web1" for one in found)

    for other in running.store.pullers():  # of other tests
        if other.id != client.id and other.status is PullerStatus.ACTIVE:
            running.store.revoke_puller(other.id, now=START)
    assert is_heard()
    running.store.suspend_puller(client.id, "a test", now=START)
    assert not is_heard()
    running.store.confirm_puller(client.id, now=START)
    assert is_heard()
    running.store.withdraw(client.id, CERTIFICATE, now=START)
    assert not is_heard()
    running.store.grant(client.id, CERTIFICATE, now=START)
    assert is_heard()
    running.store.revoke_puller(client.id, now=START)
    assert not is_heard()


# --- quotas ----------------------------------------------------------------------------------


def test_requests_that_are_dated_back_are_accepted_no_more_often(
    whole_agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says of the time moves nothing; what it fills is the same."""
    monkeypatch.setattr(quotas, "calls", lambda grants: 8 * grants)
    running = whole_agent
    accepted, grown = [], []
    for offset in (0, -CLOCK_TOLERANCE, CLOCK_TOLERANCE):
        client = running.enrolled(CERTIFICATE)
        before = len(repr(dump_of(running.store)))
        statuses = [
            client.send(
                "POST",
                DIRECT_PATH,
                encode_batch("reports", [direct_report(number)]),
                created=START + offset,
            ).status
            for number in range(16)
        ]
        accepted.append(statuses)
        grown.append(len(repr(dump_of(running.store))) - before)
    assert accepted[0] == [200] * 8 + [429] * 8
    assert accepted[1] == accepted[2] == accepted[0]
    assert max(grown) - min(grown) < 0.05 * max(grown)


def test_a_quota_tells_when_to_come_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "calls", lambda grants: 0)
    answer = client.send("PUT", csr_path(CERTIFICATE), b"nonsense")
    assert (answer.status, answer.signed, answer.slug) == (429, True, "quota")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.send("POST", rehearsal_path(CERTIFICATE), b"{}").slug == "quota"


def test_no_time_that_a_puller_states_makes_room_for_more_calls(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ahead of our clock does not end what was counted by one behind it."""
    monkeypatch.setattr(quotas, "calls", lambda grants: 4)

    def call(stated: int) -> bool:
        answer = client.send("PUT", csr_path(CERTIFICATE), b"nonsense", created=stated)
        return answer.slug != "quota"

    assert all(call(START - CLOCK_TOLERANCE) for _ in range(4))
    later = START + 1
    monkeypatch.setattr(client.running.clock, "now", later)
    assert not any(call(later + ahead) for ahead in (-CLOCK_TOLERANCE, 0, CLOCK_TOLERANCE))


def test_every_call_stands_in_the_format(client: Client) -> None:
    """`docs/FORMAT.md` section 6 has one row for each."""
    text = (Path(__file__).parents[4] / "docs" / "FORMAT.md").read_text()
    for method, pattern in calls(client.running):
        shown = pattern.replace(f"{{{PARAMETER}}}", "{id}")
        assert f"| `{method} {shown}" in text, (method, pattern)
