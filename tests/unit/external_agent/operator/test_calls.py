"""What each call shows and changes, what it refuses and how; and who is named in the trail."""

from __future__ import annotations

import json
import re

import pytest

from external_agent.facts.access import Role
from external_agent.records.rows import ErrorNote
from shared.contract.errors import IssuanceRateLimited, IssuanceUnavailable, StoreUnavailable
from shared.contract.wire import Receipt, Served
from tests.unit.external_agent.harness import CERTIFICATE, OTHER, START
from tests.unit.external_agent.operator.test_access import slug
from tests.unit.external_agent.operator.test_roles import CALLS
from tests.unit.external_agent.operator.world import World

ONE = f"/v1/certificates/{CERTIFICATE}"


def test_adding(world: World) -> None:
    body = {"names": ["Mail.Example.org", "*.mail.example.org"], "challenge": "dns-persist-01"}
    made = world.ask("POST", "/v1/certificates", body, role=Role.OPERATE)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/certificates/mail.example.org"
    assert made.json()["names"] == ["*.mail.example.org", "mail.example.org"]
    assert world.last_event() == ("certificate-added", "token the operate")
    again = world.ask("POST", "/v1/certificates", body)
    assert (again.status_code, slug(again)) == (409, "conflict")
    assert again.json()["exit_code"] == 4
    assert again.json()["error"] == "policy"
    shown = world.ask("GET", made.headers["location"])
    assert shown.json() == made.json()


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({"names": []}, "names"),
        ({"names": ["a.example.org", 7]}, "names.1"),
        ({"names": ["printer.local"]}, "names"),
        ({"names": ["*.example.org"]}, "names"),
        ({"names": ["a.example.org"], "certificate": "Not An Id"}, "certificate"),
        ({"names": ["a.example.org"], "certificate": "_relay"}, "certificate"),
        ({"names": ["a.example.org"], "cas": ["https://elsewhere.example.com/"]}, "cas"),
        ({"names": ["a.example.org"], "challenge": "dns-01"}, "challenge"),
        ({"names": ["a.example.org"], "challenge": "tls-alpn-01"}, "challenge"),
        ({"names": ["a.example.org"], "key_algorithm": "dsa"}, "key_algorithm"),
        ({"names": ["a.example.org"], "profile": "a\u0007b"}, "profile"),
        ({"names": ["a.example.org"], "nmaes": []}, "nmaes"),
        ({}, "names"),
        ([], "body"),
    ],
)
def test_the_member_at_fault_is_named(world: World, body: object, member: str) -> None:
    said = world.ask("POST", "/v1/certificates", body)
    assert (said.status_code, slug(said)) == (422, "invalid-request"), said.text
    assert [one["member"] for one in said.json()["faults"]] == [member]
    assert said.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("raw", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 60000, {}, 400),
        (b'{"names": ' + b"9" * 6000 + b"}", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"names": ["a.example.org"]}', {"Content-Type": "text/plain"}, 415),
        (b"names=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b" " * (64 * 1024 + 1), {}, 413),
        (b"{}", {"Content-Length": "99999999999999999999"}, 413),
        (b"", {}, 422),
    ],
)
def test_bodies_that_are_none(
    world: World, raw: bytes, headers: dict[str, str], status: int
) -> None:
    said = world.ask("POST", "/v1/certificates", raw=raw, headers=headers)
    assert said.status_code == status, said.text
    assert said.json()["status"] == status
    assert said.json()["type"].startswith("urn:split-horizon-relay:problem:")


def test_wrong_ways(world: World) -> None:
    said = world.ask("PUT", ONE)
    assert (said.status_code, slug(said)) == (405, "method-not-allowed")
    assert said.headers["allow"] == "DELETE, GET, PATCH"
    for path in ("/", "/v1", "/v1/nothing", f"{ONE}/", "/docs"):
        assert (world.ask("GET", path).status_code) == 404, path
    said = world.ask("GET", "/v1/events?limit=201&sort=up")
    assert {one["member"] for one in said.json()["faults"]} == {"limit", "sort"}
    for path in (
        *(f"/v1/certificates/no{more}" for more in ("", "/orders", "/generations")),
        "/v1/pullers/no",
    ):
        said = world.ask("GET", path)
        assert (said.status_code, slug(said), said.json()["exit_code"]) == (404, "not-found", 4)


def test_changing_only_what_was_read(world: World) -> None:
    read = world.ask("GET", ONE)
    tag = read.headers["etag"]
    world.clock.now += 50  # ages differ, and it means the same
    assert world.ask("GET", ONE, headers={"If-None-Match": tag}).status_code == 304
    changed = world.ask("PATCH", ONE, {"key_algorithm": "ec-p384"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["key_algorithm"]) == (200, "ec-p384")
    assert world.last_event() == ("certificate-changed", "token the admin")
    late = world.ask("PATCH", ONE, {"key_origin": "puller"}, headers={"If-Match": tag})
    assert (late.status_code, slug(late)) == (412, "changed-meanwhile")
    assert world.ask("DELETE", ONE, headers={"If-Match": tag}).status_code == 412
    events = len(world.store.events())
    again = world.ask("PATCH", ONE, {"key_algorithm": "ec-p384", "names": [CERTIFICATE]})
    assert again.status_code == 200
    assert len(world.store.events()) == events  # it is so already
    assert world.ask("GET", ONE, headers={"If-None-Match": tag}).status_code == 200


def test_one_key_for_two_machines_is_a_conflict(world: World) -> None:
    world.enrol(CERTIFICATE, host="web1")
    world.enrol(CERTIFICATE, host="web2")
    said = world.ask("PATCH", ONE, {"key_origin": "puller"})
    assert (said.status_code, slug(said)) == (409, "conflict")
    assert "web1" in said.json()["detail"]
    assert "external-agent add" in said.json()["do"]


def test_removing(world: World) -> None:
    assert world.ask("DELETE", ONE, role=Role.OPERATE).status_code == 204
    assert world.last_event() == ("certificate-removed", "token the operate")
    assert world.ask("DELETE", ONE).status_code == 404
    assert world.ask("POST", f"{ONE}/renew").status_code == 404
    assert world.ask("GET", f"{ONE}/generations").status_code == 200  # its history stays


def test_renewing_and_pausing(world: World) -> None:
    world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    due = {"owner": "t", "now": START, "lease_seconds": 1, "exclude": [OTHER]}
    assert world.store.claim_due(**due) == []  # type: ignore[arg-type]
    said = world.ask("PUT", f"{ONE}/pause", {"until": START + 100, "reason": "the name moves"})
    paused = {"at": START, "until": START + 100, "reason": "the name moves"}
    assert said.json()["paused"] == paused
    assert world.last_event() == ("certificate-paused", "token the admin")
    events = len(world.store.events())
    again = world.ask("PUT", f"{ONE}/pause", {"until": START + 100, "reason": "the name moves"})
    assert again.json()["paused"] == paused
    assert len(world.store.events()) == events
    said = world.ask("POST", f"{ONE}/renew")
    assert (said.status_code, slug(said)) == (409, "conflict")
    assert "the name moves" in said.json()["detail"]
    everything = world.ask("POST", "/v1/renewals", {"certificates": "all"})
    assert everything.json() == {"certificates": [OTHER, CERTIFICATE]}
    assert world.store.claim_due(**due) == []  # type: ignore[arg-type]
    assert "external-agent resume" in world.ask("GET", ONE).json()["waits_for"]
    for _ in range(2):
        assert world.ask("DELETE", f"{ONE}/pause").json()["paused"] is None
    assert len(world.store.claim_due(**due)) == 1  # type: ignore[arg-type]
    assert world.ask("PUT", f"{ONE}/pause", {"until": START}).status_code == 422
    assert world.ask("PUT", f"{ONE}/pause", {"reason": "a\u001b[2J"}).status_code == 422
    world.ask("PUT", f"{ONE}/pause", {"until": START + 100})
    world.clock.now += 100
    assert world.ask("GET", ONE).json()["paused"] is None
    assert len(world.store.claim_due(**{**due, "now": START + 100})) == 1  # type: ignore[arg-type]
    assert world.ask("POST", f"{ONE}/renew").status_code == 202


def test_a_revocation_of_nothing_is_a_conflict(world: World) -> None:
    said = world.ask("POST", f"{ONE}/revoke", {"reason": "keyCompromise"})
    assert (said.status_code, slug(said)) == (409, "conflict")
    assert "nothing to revoke" in said.json()["detail"]


def test_revoking(world: World) -> None:
    world.enrol(CERTIFICATE)
    generation = world.agent.publish(CERTIFICATE)
    done = world.ask("POST", f"{ONE}/revoke", {"reason": "keyCompromise"}, role=Role.OPERATE)
    assert done.json() == {
        "certificate": CERTIFICATE,
        "generation": generation,
        "before": False,
        "renewed": True,
    }
    assert world.ca.revoked == [1]
    kinds = {one.kind: one.actor for one in world.store.events()}
    assert kinds["revoked"] == kinds["renewal-requested"] == "token the operate"
    assert world.ask("GET", ONE).json()["state"] == "revoked"
    for error, status in (
        (IssuanceUnavailable("The CA is down."), 502),
        (IssuanceRateLimited("Later.", retry_after=90.0), 503),
    ):
        world.ca.error = error
        said = world.ask("POST", f"{ONE}/revoke", {})
        assert (said.status_code, said.json()["exit_code"]) == (status, 6)
        assert said.headers.get("retry-after") == ("90" if status == 503 else None)
    world.ca.error = None


def test_facts_stay_separate_and_say_since_when(world: World) -> None:
    assert world.ask("GET", ONE).json()["differences"] == [
        {"behind": "issued", "of": "wanted", "puller": None, "since": START, "age": 0}
    ]
    puller = world.enrol(CERTIFICATE)
    generation = world.agent.publish(CERTIFICATE)
    world.clock.now += 90

    def behind() -> list[tuple[str, str, int]]:
        found = world.ask("GET", ONE).json()["differences"]
        assert {one["puller"] for one in found} <= {puller}
        return [(one["behind"], one["of"], one["age"]) for one in found]

    assert behind() == [("pulled", "issued", 90)]
    world.store.bundle_for(puller, CERTIFICATE, 0, now=START + 90)
    world.clock.now += 10
    assert behind() == [("installed", "pulled", 10)]
    leaf = world.ask("GET", ONE).json()["issued"]["leaf_sha256"]
    for served, expected in (("cd" * 32, [("served", "issued", 100)]), (leaf, [])):
        receipt = Receipt(
            CERTIFICATE, generation, "ab" * 32, "installed", "none",
            (Served(served, START + 1000, None),), START + 100,
        )  # fmt: skip
        world.store.record_receipts(puller, [receipt], now=START + 100)
        assert behind() == expected
    receipts = world.ask("GET", f"/v1/receipts?puller={puller}&limit=1").json()
    assert [one["served"][0]["leaf_sha256"] for one in receipts["items"]] == [leaf]
    rest = world.ask("GET", f"/v1/receipts?certificate={CERTIFICATE}&before={receipts['next']}")
    assert [one["served"][0]["leaf_sha256"] for one in rest.json()["items"]] == ["cd" * 32]
    assert rest.json()["next"] is None


def test_pages_of_certificates_and_what_is_looked_for(world: World) -> None:
    for number in range(5):
        world.ask("POST", "/v1/certificates", {"names": [f"n{number}.example.org"]})
    seen, after = [], ""
    while after is not None:
        page = world.ask("GET", f"/v1/certificates?limit=3&after={after}").json()
        seen += [one["certificate"] for one in page["items"]]
        after = page["next"]
    assert seen == sorted({CERTIFICATE, OTHER, *(f"n{number}.example.org" for number in range(5))})
    puller = world.enrol(OTHER)
    for query, expected in (
        (f"name={OTHER}", [OTHER]),
        (f"puller={puller}", [OTHER]),
        ("challenge=dns-01", []),
        ("state=served", []),
        ("state=wanted&limit=1", [OTHER]),
    ):
        page = world.ask("GET", f"/v1/certificates?{query}").json()
        assert [one["certificate"] for one in page["items"]] == expected, query


def test_orders_step_by_step(world: World) -> None:
    world.enrol(CERTIFICATE)
    generation = world.agent.publish(CERTIFICATE)
    (order,) = world.ask("GET", f"{ONE}/orders").json()["items"]
    assert [one["step"] for one in order["steps"]] == [
        "prepared", "ordered", "finalizing", "certified", "issued",
    ]  # fmt: skip
    assert order["order"] == f"https://ca.example.com/{generation}"
    world.clock.now += 10
    world.ask("POST", f"{ONE}/renew")
    now = int(world.clock())
    (claim,) = world.store.claim_due("t", now=now, lease_seconds=60, exclude=[OTHER])
    number = world.store.choose_generation(CERTIFICATE, now=now)
    from external_agent.records.rows import PreparedKey

    row = world.store.certificate(CERTIFICATE)
    assert row is not None
    puller = world.store.recipients(CERTIFICATE)[0].id
    prepared = PreparedKey(b"CSR", "12" * 32, {puller: b"sealed"})
    world.store.commit_prepared(claim, number, prepared, now=now, wanted=row.wanted)
    world.store.commit_order(claim, number, "https://ca.example.com/o", None)
    world.store.put_challenge(claim, "tok", "tok.secret", CERTIFICATE, now=now)
    world.store.record_challenge_hits({"tok": 3})
    page = world.ask("GET", f"{ONE}/orders?limit=1")
    (order,) = page.json()["items"]
    assert order["authorizations"] == [{"name": CERTIFICATE, "since": now, "asked": 3}]
    assert "tok" not in page.text
    assert [one["step"] for one in order["steps"]] == ["prepared", "ordered"]
    world.store.end_attempt(claim, number, ErrorNote("issuance/rejected", "No.", now), now=now)
    (order,) = world.ask("GET", f"{ONE}/orders?limit=1").json()["items"]
    assert order["steps"][-1] == {"step": "failed", "at": now}
    assert order["error"]["what"] == "No."
    page = world.ask("GET", f"{ONE}/generations?limit=1").json()
    assert page["items"][0]["generation"] == page["next"] == number
    older = world.ask("GET", f"{ONE}/generations?before={number}").json()
    assert [one["generation"] for one in older["items"]] == [generation]


def test_pullers(world: World) -> None:
    first, second = world.enrol(CERTIFICATE, host="web1"), world.enrol(OTHER, host="web2")
    page = world.ask("GET", "/v1/pullers?limit=1").json()
    rest = world.ask("GET", f"/v1/pullers?after={page['next']}").json()
    assert [one["puller"] for one in (*page["items"], *rest["items"])] == sorted((first, second))
    path = f"/v1/pullers/{first}"
    for _ in range(2):
        granted = world.ask("PUT", f"{path}/grants/{OTHER}", role=Role.OPERATE)
        assert granted.json()["certificates"] == [OTHER, CERTIFICATE]
    assert world.last_event() == ("granted", "token the operate")
    assert world.ask("PUT", f"{path}/grants/nothing").status_code == 404
    for _ in range(2):
        assert world.ask("DELETE", f"{path}/grants/{OTHER}").json()["certificates"] == [CERTIFICATE]
    assert world.last_event() == ("grant-withdrawn", "token the admin")
    assert world.ask("POST", f"{path}/suspend", {"reason": "lost"}).json()["status"] == "suspended"
    assert world.ask("GET", "/v1/pullers?status=suspended").json()["items"][0]["puller"] == first
    assert world.ask("POST", f"{path}/confirm").json()["status"] == "active"
    for _ in range(2):
        assert world.ask("POST", f"{path}/revoke").json()["status"] == "revoked"
    said = world.ask("POST", f"{path}/confirm")
    assert (said.status_code, slug(said)) == (409, "conflict")
    kinds = {one.kind: one.actor for one in world.store.events()}
    assert kinds["puller-suspended"] == kinds["puller-revoked"] == "token the admin"


def test_enrolment_tokens(world: World) -> None:
    body = {"certificates": [CERTIFICATE], "lifetime": 120}
    made = world.ask("POST", "/v1/enrolment-tokens", body, role=Role.OPERATE)
    assert made.status_code == 201, made.text
    assert made.json()["token"].startswith("shr1_")
    assert made.json()["expires_at"] == START + 120
    assert world.last_event() == ("token-created", "token the operate")
    listed = world.ask("GET", "/v1/enrolment-tokens", role=Role.READ)
    assert made.json()["token"] not in listed.text
    assert [one["token_id"] for one in listed.json()["items"]] == [made.json()["token_id"]]
    for _ in range(2):
        assert world.ask("DELETE", made.headers["location"]).json()["voided_at"] == START
    assert world.ask("DELETE", "/v1/enrolment-tokens/none").status_code == 404
    assert world.ask("POST", "/v1/enrolment-tokens", {"certificates": ["no"]}).status_code == 404
    too_long = world.ask("POST", "/v1/enrolment-tokens", {**body, "lifetime": 86401})
    assert too_long.json()["faults"][0]["member"] == "lifetime"


def test_events_accounts_and_authorities(world: World) -> None:
    page = world.ask("GET", "/v1/events?kind=certificate-added&limit=1").json()
    assert [one["certificate"] for one in page["items"]] == [OTHER]
    rest = world.ask("GET", f"/v1/events?kind=certificate-added&before={page['next']}").json()
    assert [one["certificate"] for one in rest["items"]] == [CERTIFICATE]
    assert rest["next"] is None
    url = world.settings.acme.directory
    world.store.save_account(url, "https://ca.example.com/acct/1", ["mailto:a@b.example"], now=1)
    (account,) = world.ask("GET", "/v1/accounts").json()["items"]
    assert (account["directory"], account["contact"]) == (url, ["mailto:a@b.example"])
    (authority,) = world.ask("GET", "/v1/authorities").json()["items"]
    assert (authority["health"], authority["certificates"]) == ("untried", 2)
    world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    world.enrol(OTHER, host="web2")
    assert world.ask("GET", "/v1/authorities").json()["items"][0]["health"] == "good"
    (claim,) = world.store.claim_due("t", now=START, lease_seconds=9)
    note = ErrorNote("issuance/unavailable", "It is down.", START)
    world.store.record_failure(claim, note, failures=1, paused_until=START + 9, now=START)
    (authority,) = world.ask("GET", "/v1/authorities").json()["items"]
    assert (authority["health"], authority["failing"]) == ("failing", 1)
    assert authority["last_error"]["what"] == "It is down."


def test_a_database_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object, **named: object) -> object:
        raise StoreUnavailable("The database is locked.")

    for name in ("status", "request_renewal", "access_by_digest"):
        with monkeypatch.context() as patched:
            patched.setattr(world.store, name, gone)
            said = world.ask("POST", f"{ONE}/renew")
            assert (said.status_code, slug(said)) == (503, "unavailable"), name
            assert int(said.headers["retry-after"]) > 0
            assert said.json()["exit_code"] == 11


def test_an_error_of_ours_is_a_problem_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **named: object) -> object:
        raise ValueError("nobody thought of this")

    monkeypatch.setattr(world.store, "status", broken)
    said = world.ask("GET", "/v1/status")
    assert (said.status_code, slug(said)) == (500, "internal")
    assert "nobody" not in said.text


def test_no_call_returns_a_key(world: World) -> None:
    puller = world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    secret_words = [b"PRIVATE KEY", b"sealed", b"c2VhbGVk", *map(str.encode, world.tokens.values())]
    keys = [path.read_bytes() for path in world.settings.state_directory.glob("*.key")]
    secret_words += [key[:16].hex().encode() for key in keys]
    for method, path, _ in CALLS:
        concrete = path.replace("{certificate}", CERTIFICATE).replace("{puller}", puller)
        body = {"names": ["x.example.org"], "certificates": [CERTIFICATE], "name": "x"}
        said = world.ask(method, concrete, None if method == "GET" else body)
        found = json.dumps(_names(said.json())) if said.content else ""
        for word in secret_words:
            assert word not in said.content, path
        assert not re.search(r"sealed|private|seed|envelope|digest|secret", found), path


def _names(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for one in value.values() for name in _names(one))]
    return [name for one in value for name in _names(one)] if isinstance(value, list) else []
