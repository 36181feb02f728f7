"""Access tokens: made, used, ended; guesses are counted; the read-only mode without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from external_agent.facts.access import PREFIX, Role, check_lifetime, check_name, digest_of
from external_agent.operator.limits import FAILURES, MOST_PEERS, WINDOW, Failures
from shared.contract.errors import ConfigurationError
from tests.unit.external_agent.operator.world import World


def slug(answer: object) -> str:
    return str(answer.json()["type"]).rsplit(":", 1)[1]  # type: ignore[attr-defined]


def test_a_token_is_shown_once_and_stored_as_its_hash(world: World) -> None:
    made = world.local("POST", "/v1/access-tokens", {"name": "ci", "role": "read"})
    token = made.json()["token"]
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43  # 256 bits in base64url
    assert world.last_event() == ("access-created", "socket user root")
    listed = world.local("GET", "/v1/access-tokens")
    row = next(one for one in listed.json()["items"] if one["name"] == "ci")
    assert row["token_id"] == made.json()["token_id"]
    assert token not in listed.text
    database = Path(world.settings.state_directory, "relay.db").read_bytes()
    assert token.encode() not in database
    assert digest_of(token).encode() in database
    assert "token ci" in world.ask("GET", "/v1/me", token=token).text


def test_a_token_ends(world: World) -> None:
    token = world.token(Role.OPERATE, "short", lifetime=60)
    assert world.ask("GET", "/v1/me", token=token).status_code == 200
    world.clock.now += 60
    said = world.ask("GET", "/v1/me", token=token)
    assert (said.status_code, slug(said)) == (401, "not-authenticated")
    assert 'error="invalid_token"' in said.headers["www-authenticate"]
    assert world.attempts == {"good": 1, "ended": 1}


def test_a_token_is_voided_at_once_and_its_name_is_free_again(world: World) -> None:
    token = world.token(Role.READ, "ci")
    again = world.local("POST", "/v1/access-tokens", {"name": "ci", "role": "read"})
    assert (again.status_code, slug(again)) == (409, "conflict")
    found = world.local("GET", "/v1/access-tokens").json()["items"]
    (identifier,) = [one["token_id"] for one in found if one["name"] == "ci"]
    for _ in range(2):  # voiding twice is voiding
        said = world.ask("DELETE", f"/v1/access-tokens/{identifier}")
        assert said.json()["voided_at"] == int(world.clock())
    assert world.last_event() == ("access-voided", "token the admin")
    assert world.ask("GET", "/v1/me", token=token).status_code == 401
    assert world.token(Role.READ, "ci") != token
    assert world.ask("DELETE", "/v1/access-tokens/none").status_code == 404


def test_when_it_was_used_is_noted_once_an_hour(world: World) -> None:
    token = world.token(Role.READ, "ci")

    def used() -> int | None:
        return next(one.used_at for one in world.store.access_tokens() if one.name == "ci")

    assert used() is None
    start = int(world.clock())
    for after, expected in ((0, start), (3599, start), (3600, None)):
        world.clock.now = start + after
        world.ask("GET", "/v1/me", token=token)
        assert used() == (expected or start) or after == 3600


@pytest.mark.parametrize(
    "field",
    ["Bearer", "Bearer ", "Basic cm9vdDp4", "Bearer shra_AAAA", "bearer shr1_AAAA", "x" * 5000],
)
def test_what_is_no_token_is_refused_and_counted(world: World, field: str) -> None:
    said = world.ask(
        "GET", "/v1/me", headers={"Authorization": field}, peer=f"10.0.0.{len(field) % 200}"
    )
    assert (said.status_code, slug(said)) == (401, "not-authenticated")
    assert world.attempts == {"unknown": 1}


def test_guesses_are_limited_for_each_peer_and_lock_nobody_else_out(world: World) -> None:
    peer = "203.0.113.9"
    known = world.tokens[Role.READ]
    assert world.ask("GET", "/v1/me", token=known, peer=peer).status_code == 200
    codes = [
        world.ask("GET", "/v1/me", token=f"{PREFIX}{n}", peer=peer).status_code for n in range(12)
    ]
    assert codes == [401] * FAILURES + [429] * 2
    limited = world.ask("GET", "/v1/me", token="shra_x", peer=peer)
    assert slug(limited) == "too-many-failures"
    assert 1 <= int(limited.headers["retry-after"]) <= WINDOW
    assert world.attempts["unknown"] == FAILURES
    assert world.attempts["limited"] == 3
    # Behind a proxy all have one address: who was let in before is let in still.
    assert world.ask("GET", "/v1/me", token=known, peer=peer).status_code == 200
    assert world.ask("GET", "/v1/me", token="shra_x", peer="203.0.113.10").status_code == 401
    world.clock.now += int(limited.headers["retry-after"])
    assert world.ask("GET", "/v1/me", token="shra_x", peer=peer).status_code == 401


def test_who_has_a_network_of_ipv6_has_one_peer(world: World) -> None:
    """Whoever has one address has 2^64 of them (RFC 6177)."""
    guesses = [
        world.ask("GET", "/v1/me", token=f"{PREFIX}{n}", peer=f"2001:db8::{n:x}").status_code
        for n in range(12)
    ]
    assert guesses[:10] == [401] * 10 and guesses[-1] == 429
    assert world.ask("GET", "/v1/me", token="shra_x", peer="2001:db8:0:1::1").status_code == 401


def test_memory_for_failures_is_bounded() -> None:
    failures = Failures()
    for number in range(MOST_PEERS + 50):
        failures.add(f"peer {number}", now=float(number))
    assert len(failures) == MOST_PEERS
    for _ in range(FAILURES * 5):
        failures.add("one", now=0.0)
    assert 0 < failures.wait("one", 0.0) <= WINDOW / FAILURES + 1
    assert failures.wait("one", WINDOW) == 0
    assert failures.wait("one", -100.0) > 0  # a clock that was set back forgives nothing


@pytest.mark.parametrize(
    ("name", "lifetime"),
    [("", 60), (" a", 60), ("a" * 65, 60), ("ä", 60), ("ci", 59), ("ci", 10**9)],
)
def test_names_and_lifetimes_that_are_refused(name: str, lifetime: int) -> None:
    with pytest.raises(ConfigurationError):
        check_lifetime(lifetime)
        check_name(name)


def open_world(directory: Path) -> World:
    return World(directory, open_read=True, allowed_hosts=("relay.example.com",))


def test_reading_without_a_token_on_loopback_only_if_set(world: World, tmp_path: Path) -> None:
    assert world.ask("GET", "/v1/status", role=None, peer="127.0.0.1").status_code == 401
    opened = open_world(tmp_path)
    for peer in ("127.0.0.1", "::1"):
        assert opened.ask("GET", "/v1/status", role=None, peer=peer).status_code == 200
        assert opened.ask("GET", "/metrics", role=None, peer=peer).status_code == 200
    said = opened.ask("POST", "/v1/certificates/x/renew", role=None, peer="127.0.0.1")
    assert (said.status_code, slug(said)) == (403, "forbidden")
    assert opened.ask("GET", "/v1/access-tokens", role=None, peer="127.0.0.1").status_code == 403
    assert opened.ask("GET", "/v1/status", role=None, peer="192.0.2.1").status_code == 401
    for headers in (
        {"Host": "relay.example.com"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"Authorization": "Bearer shra_wrong"},
    ):
        said = opened.ask("GET", "/v1/status", role=None, peer="127.0.0.1", headers=headers)
        assert said.status_code == 401, headers
    opened.store.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "relay.example.com:443"}, 200),
        ({"Host": "evil.example.net"}, 421),
        ({"Host": "127.0.0.1.evil.example.net"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
        ({"Host": "127.0.0.1", "Origin": "https://relay.example.com"}, 200),
        ({"Origin": "http://127.0.0.1:9090"}, 403),
        ({"Origin": "https://evil.example.net"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://127.0.0.1:8080"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_host_and_origin(world: World, headers: dict[str, str], status: int) -> None:
    said = world.ask("GET", "/v1/me", headers=headers)
    assert said.status_code == status
    if status != 200:
        assert slug(said) in ("host-unknown", "origin-unknown")
        assert "operator.allowed_hosts" in said.json()["do"]
    if "Host" in headers:
        assert world.ask("GET", "/healthz", headers=headers, role=None).status_code == status
