"""What enrolled pullers get: their own, nothing of others; and the long poll."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from external_agent.doctor import doctor as doctor_module
from external_agent.doctor.doctor import Doctor
from external_agent.facts.quotas import allowed
from shared.contract.batches import BatchAnswer, encode_batch
from shared.contract.diagnosis import DOCTOR_PATH, Finding, Half, Verdict
from shared.contract.wire import (
    CERTIFICATES_PATH,
    DIRECT_PATH,
    MAX_WAIT,
    RECEIPTS_PATH,
    BundleAnswer,
    DirectReport,
    Listing,
    Receipt,
    Served,
    bundle_path,
    csr_path,
)
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    OTHER,
    START,
    Answer,
    Client,
    RunningAgent,
    running_agent,
    wait_until,
)


def receipt(certificate: str, generation: int, **changes: object) -> bytes:
    members: dict[str, object] = {
        "certificate": certificate,
        "generation": generation,
        "digest": "ab" * 32,
        "outcome": "installed",
        "error": "none",
        "served": (Served("cd" * 32, START + 1000, None),),
        "at": START,
    }
    made = Receipt(**{**members, **changes})  # type: ignore[arg-type]
    return encode_batch("receipts", [made.encode().decode()])


# --- whose is what ---------------------------------------------------------------------------


def test_a_puller_sees_its_own_and_nothing_of_others(running: RunningAgent) -> None:
    web, app = running.enrolled(CERTIFICATE, host="web"), running.enrolled(OTHER, host="app")
    made = {one: running.publish(one) for one in (CERTIFICATE, OTHER)}
    for client, own, foreign in ((web, CERTIFICATE, OTHER), (app, OTHER, CERTIFICATE)):
        listing = client.get(CERTIFICATES_PATH)
        assert [one.certificate for one in Listing.decode(listing.body).offers] == [own]
        assert foreign.encode() not in listing.body
        mine = BundleAnswer.decode(client.get(bundle_path(own)).body)
        assert mine.newest == made[own]
        assert mine.envelope is not None
        assert client.id[:8].encode() in mine.envelope
        refused = [
            client.get(bundle_path(foreign)),
            client.get(bundle_path(foreign), "after=1"),
            client.send("PUT", csr_path(foreign), b"CSR"),
        ]
        unknown = [
            client.get(bundle_path("unknown.example.com")),
            client.get(bundle_path("unknown.example.com"), "after=1"),
            client.send("PUT", csr_path("unknown.example.com"), b"CSR"),
        ]
        # Foreign and unknown look the same: nobody learns which names others have.
        for one, other in zip(refused, unknown, strict=True):
            assert (one.status, one.signed) == (other.status, other.signed)
            assert one.signed
            assert one.status in (404, 422)
            assert one.slug == other.slug
            text = one.body.replace(foreign.encode(), b"X")
            assert text == other.body.replace(b"unknown.example.com", b"X")
        (one,), (other,) = (
            BatchAnswer.decode(client.send("POST", RECEIPTS_PATH, body).body).refused
            for body in (receipt(foreign, made[foreign]), receipt("unknown.example.com", 1))
        )
        assert one.slug == other.slug == "certificate-unknown"
        assert one.detail.replace(foreign, "X") == other.detail.replace("unknown.example.com", "X")
    assert running.store.receipts(CERTIFICATE) == running.store.receipts(OTHER) == []


def test_without_credentials_there_is_nothing(running: RunningAgent) -> None:
    running.enrolled(CERTIFICATE)
    running.publish(CERTIFICATE)
    client = Client(running)

    def strip(draft: object) -> None:
        draft.headers = {"Signature": "shr=::"}  # type: ignore[attr-defined]

    for method, path in (
        ("GET", CERTIFICATES_PATH),
        ("GET", bundle_path(CERTIFICATE)),
        ("PUT", csr_path(CERTIFICATE)),
        ("POST", RECEIPTS_PATH),
    ):
        answer = client.send(method, path, b"{}" if method != "GET" else b"", edit=strip)
        assert (answer.status, answer.signed) == (400, False)
        assert CERTIFICATE.encode() not in answer.body


def test_two_pullers_of_one_certificate_get_a_bundle_each(running: RunningAgent) -> None:
    one, two = running.enrolled(CERTIFICATE, host="one"), running.enrolled(CERTIFICATE, host="two")
    running.publish(CERTIFICATE)
    envelopes = [
        BundleAnswer.decode(c.get(bundle_path(CERTIFICATE)).body).envelope for c in (one, two)
    ]
    for client, envelope in zip((one, two), envelopes, strict=True):
        assert envelope is not None
        assert client.id[:8].encode() in envelope


def test_nothing_new_is_200(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    empty = client.get(bundle_path(CERTIFICATE))
    assert (empty.status, BundleAnswer.decode(empty.body)) == (200, BundleAnswer(0, None))
    generation = running.publish(CERTIFICATE)
    again = client.get(bundle_path(CERTIFICATE), f"after={generation}")
    assert BundleAnswer.decode(again.body) == BundleAnswer(generation, None)


@pytest.mark.parametrize(
    "query",
    [
        "installation=" + "A" * 32 + "&host=web1",
        "installation=" + "a" * 31 + "&host=web1",
        "installation=" + "a" * 32 + "&host=a%20b",
        "installation=" + "a" * 32 + "&host=",
        "installation=" + "a" * 32 + "&host=" + "x" * 65,
        "installation=" + "a" * 32 + "&host=%1b[31m",
    ],
)
def test_what_is_said_of_the_machine_is_checked(running: RunningAgent, query: str) -> None:
    answer = running.enrolled(CERTIFICATE).get(CERTIFICATES_PATH, query)
    assert (answer.status, answer.slug) == (400, "malformed-request")


def test_half_of_it_says_nothing(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    for query in ("host=web1", "installation=" + "a" * 32):
        assert client.get(CERTIFICATES_PATH, query).status == 200
    (delivery,) = running.store.status(START, only=CERTIFICATE)[0].deliveries
    assert delivery.machines == ()


# --- receipts --------------------------------------------------------------------------------


def test_a_receipt_becomes_a_fact_of_its_own(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    generation = running.publish(CERTIFICATE)
    answer = client.send("POST", RECEIPTS_PATH, receipt(CERTIFICATE, generation))
    assert (answer.status, answer.signed) == (200, True)
    (status,) = [s for s in running.store.status(START) if s.certificate.id == CERTIFICATE]
    (delivery,) = status.deliveries
    assert (delivery.installed, delivery.pulled) == (generation, 0)
    assert delivery.served_matches is False  # it says that it serves another leaf


@pytest.mark.parametrize("claimed", [START + 3601, 2**53 - 1])
def test_a_lying_receipt_locks_nobody_out(running: RunningAgent, claimed: int) -> None:
    liar, honest = running.enrolled(CERTIFICATE), running.enrolled(CERTIFICATE, host="honest")
    first = running.publish(CERTIFICATE)
    assert liar.send("POST", RECEIPTS_PATH, receipt(CERTIFICATE, claimed)).status == 200
    assert liar.get(bundle_path(CERTIFICATE), f"after={claimed}").status == 200
    running.clock.now += 60
    running.store.request_renewal(CERTIFICATE, "test", now=START + 60)
    second = running.publish(CERTIFICATE)
    assert first < second <= START + 3660
    assert BundleAnswer.decode(honest.get(bundle_path(CERTIFICATE)).body).newest == second
    kinds = [event.kind for event in running.store.events()]
    assert any("generation" in kind for kind in kinds), kinds


def test_receipts_have_a_quota_for_each_puller(running: RunningAgent) -> None:
    noisy, quiet = running.enrolled(CERTIFICATE), running.enrolled(CERTIFICATE, host="quiet")
    answers = [
        noisy.send("POST", RECEIPTS_PATH, receipt(CERTIFICATE, 1, outcome="refused"))
        for _ in range(allowed(1) + 1)
    ]
    assert answers[0].status == 200
    last = answers[-1]
    assert (last.status, last.signed, last.slug) == (429, True, "quota")
    assert int(last.headers["retry-after"]) > 0
    assert quiet.send("POST", RECEIPTS_PATH, receipt(CERTIFICATE, 1)).status == 200


def test_one_receipt_harms_no_other(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    generation = running.publish(CERTIFICATE)
    good = receipt(CERTIFICATE, generation)[len(b'{"receipts":[') : -2].decode()
    foreign = receipt(OTHER, generation)[len(b'{"receipts":[') : -2].decode()
    broken = good.replace('"installed"', '"eaten"')
    surplus = good.replace('"at"', '"mood":1,"at"')
    body = encode_batch("receipts", [broken, foreign, good, surplus, good])
    answer = client.send("POST", RECEIPTS_PATH, body)
    assert (answer.status, answer.signed) == (200, True)
    found = {one.index: one.slug for one in BatchAnswer.decode(answer.body).refused}
    wrong, unknown = "malformed-request", "certificate-unknown"
    assert found == {0: wrong, 1: unknown, 3: wrong}
    assert [one.generation for one in running.store.receipts(CERTIFICATE)] == [generation] * 2
    assert running.store.receipts(OTHER) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"receipts":[]}',
        b'{"receipts":{}}',
        b'{"receipts":[1]}',
        b'{"receipts":[' + b",".join([b"{}"] * 101) + b"]}",
        receipt(CERTIFICATE, 1)[len(b'{"receipts":[') : -2],
        receipt(CERTIFICATE, 1).replace(b'{"receipts"', b'{"more":1,"receipts"'),
    ],
)
def test_a_call_of_another_shape_is_refused_whole(running: RunningAgent, body: bytes) -> None:
    client = running.enrolled(CERTIFICATE)
    answer = client.send("POST", RECEIPTS_PATH, body)
    assert (answer.status, answer.slug) == (400, "malformed-request")
    assert running.store.receipts(CERTIFICATE) == []


# --- long poll -------------------------------------------------------------------------------


class Poll:
    """A long poll in a thread."""

    def __init__(self, client: Client, query: str) -> None:
        self.answer: Answer | None = None
        self.seconds = 0.0

        def run() -> None:
            begin = time.monotonic()
            self.answer = client.get(CERTIFICATES_PATH, query, timeout=60)
            self.seconds = time.monotonic() - begin

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def result(self) -> Answer:
        self.thread.join(30)
        assert self.answer is not None
        return self.answer


def parked(running: RunningAgent, count: int) -> None:
    bell = running.agent._bell
    wait_until(lambda: bell.waiting == count)


def version(client: Client) -> str:
    return Listing.decode(client.get(CERTIFICATES_PATH).body).version


def test_publication_wakes_a_parked_poll(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    poll = Poll(client, f"since={version(client)}&wait=50")
    parked(running, 1)
    generation = running.publish(CERTIFICATE)
    answer = poll.result()
    assert (answer.status, answer.signed) == (200, True)
    assert Listing.decode(answer.body).offers[0].generation == generation
    assert poll.seconds < 10


@pytest.mark.parametrize(
    ("act", "slug"),
    [
        (lambda running, puller: running.store.revoke_puller(puller, now=START), "puller-revoked"),
        (
            lambda running, puller: running.store.suspend_puller(puller, "test", now=START),
            "puller-suspended",
        ),
    ],
)
def test_a_parked_poll_outlives_no_revocation(
    running: RunningAgent, act: Callable[[RunningAgent, str], None], slug: str
) -> None:
    client = running.enrolled(CERTIFICATE)
    poll = Poll(client, f"since={version(client)}&wait=50")
    parked(running, 1)
    act(running, client.id)  # as another process would: nobody rings the bell
    running_answer = poll.result()
    assert (running_answer.status, running_answer.signed) == (403, True)
    assert running_answer.slug == slug
    assert CERTIFICATE.encode() not in running_answer.body
    assert poll.seconds < 10


def test_revoked_and_published_at_once_gives_no_data(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    running.enrolled(CERTIFICATE, host="other")
    poll = Poll(client, f"since={version(client)}&wait=50")
    parked(running, 1)
    running.store.revoke_puller(client.id, now=START)
    running.publish(CERTIFICATE)
    assert poll.result().slug == "puller-revoked"


def test_news_already_there_is_answered_at_once(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    begin = time.monotonic()
    assert client.get(CERTIFICATES_PATH, "since=ab&wait=50").status == 200
    assert client.get(CERTIFICATES_PATH, "since=Another_agent.s~name-1&wait=50").status == 200
    assert client.get(CERTIFICATES_PATH, "wait=50").status == 200
    assert time.monotonic() - begin < 10


def test_a_wait_that_brings_nothing_ends_with_the_same_listing(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    since = version(client)
    answer = client.get(CERTIFICATES_PATH, f"since={since}&wait=1")
    assert (answer.status, Listing.decode(answer.body).version) == (200, since)


def test_at_most_four_polls_of_one_puller_wait(running: RunningAgent) -> None:
    client, other = running.enrolled(CERTIFICATE), running.enrolled(CERTIFICATE, host="other")
    query = f"since={version(client)}&wait=50"
    polls = [Poll(client, query) for _ in range(4)]
    parked(running, 4)
    fifth = client.get(CERTIFICATES_PATH, query)
    assert (fifth.status, fifth.signed, fifth.slug) == (429, True, "too-many-waits")
    assert int(fifth.headers["retry-after"]) > 0
    polls.append(Poll(other, f"since={version(other)}&wait=50"))
    parked(running, 5)
    running.publish(CERTIFICATE)
    assert [poll.result().status for poll in polls] == [200] * 5


def test_the_wait_is_capped(running: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAIT == 50
    monkeypatch.setattr("external_agent.relay.relay_app.MAX_WAIT", 1)
    client = running.enrolled(CERTIFICATE)
    poll = Poll(client, f"since={version(client)}&wait=999999")
    assert poll.result().status == 200
    assert poll.seconds < 20


def test_a_client_that_goes_away_frees_its_place(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    draft = client.draft("GET", CERTIFICATES_PATH, query=f"since={version(client)}&wait=50")
    connection = client.connect()
    connection.putrequest("GET", f"{draft.path}?{draft.query}")
    for name, value in draft.headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    parked(running, 1)
    connection.close()
    parked(running, 0)


def test_a_stopping_agent_answers_parked_polls(own_agent: RunningAgent) -> None:
    client = own_agent.enrolled(CERTIFICATE)
    since = version(client)
    poll = Poll(client, f"since={since}&wait=50")
    parked(own_agent, 1)
    own_agent.agent.stop()
    answer = poll.result()
    assert (answer.status, answer.signed) == (200, True)
    assert Listing.decode(answer.body).version == since


def test_a_puller_reports_what_it_gets_by_itself(running: RunningAgent) -> None:
    web, stranger = running.enrolled(CERTIFICATE), Client(running)
    report = DirectReport(
        OTHER, (OTHER,), START, START + 1000, "ab" * 32, 0, "installed", "none", (), START
    ).encode()
    sent = encode_batch("reports", [report.decode()])
    assert web.send("POST", DIRECT_PATH, sent).json() == {"refused": []}
    assert stranger.send("POST", DIRECT_PATH, sent).status == 401
    assert web.send("POST", DIRECT_PATH, b"{}").slug == "malformed-request"
    assert web.send("GET", DIRECT_PATH).slug == "not-found"


# --- diagnosis -------------------------------------------------------------------------------


def test_an_examination_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the few threads that everything else needs waits for it, or for its turn."""
    go_on, threads = threading.Event(), list[str]()

    def hang(doctor: Doctor, certificates: object = ()) -> Half:
        threads.append(threading.current_thread().name)
        go_on.wait(20)
        return Half("agent", "vm", START)

    monkeypatch.setattr(Doctor, "examine", hang)
    with running_agent(tmp_path, CERTIFICATE) as running:
        client = running.enrolled(CERTIFICATE)
        answers: list[Answer] = []
        half = Half("puller", "web1", START).encode()
        asking = [
            threading.Thread(target=lambda: answers.append(client.send("POST", DOCTOR_PATH, half)))
            for _ in range(10)
        ]
        for one in asking:
            one.start()
        try:
            wait_until(lambda: len(answers) == len(asking) - 1)
            assert {one.slug for one in answers} == {"too-many-waits"}
            assert client.get(CERTIFICATES_PATH).status == 200
        finally:
            go_on.set()
            for one in asking:
                one.join()
        assert min(one.status for one in answers) == 200
        assert [name.partition("_")[0] for name in threads] != ["store"]


def test_a_puller_does_not_learn_of_what_is_on_the_agents_machine(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That something is wrong there it does: it is why nothing comes."""
    secret = "/srv/relay postgresql://db.example.com/relay"
    found = tuple(
        Finding(check, verdict, secret, secret, secret)
        for check in ("files", "disk", "database", "listeners", "dns-01")
        for verdict in Verdict
    )
    caa = Finding("caa", Verdict.NOTE, CERTIFICATE, "No CAA record")
    monkeypatch.setattr(doctor_module, "examine", lambda checks: [*found, caa])
    client = running.enrolled(CERTIFICATE)
    answer = client.send("POST", DOCTOR_PATH, Half("puller", "web1", START).encode())
    assert answer.status == 200, answer.body
    told = Half.decode(answer.body, "agent").findings
    assert told[-1] == caa and b"/srv" not in answer.body and b"postgresql" not in answer.body
    files = [one for one in told if one.check == "files"]
    assert [one.verdict for one in files] == [one for one in Verdict if one is not Verdict.NOTE]
    assert all(one.verdict is Verdict.OK or "external-agent doctor" in one.do for one in files)
