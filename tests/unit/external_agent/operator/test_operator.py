"""The operator listener: facts, health and numbers; no secret and no way to change anything."""

from __future__ import annotations

import http.client
import json
import re

import pytest

from external_agent.settings import keys
from shared.contract.batches import encode_batch
from shared.contract.errors import StoreUnavailable
from shared.contract.wire import RECEIPTS_PATH, Receipt, Served, bundle_path
from tests.unit.external_agent.harness import CERTIFICATE, START, RunningAgent, wait_until


def ask(running: RunningAgent, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port("operator"), timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def certificate(running: RunningAgent) -> dict[str, object]:
    status, body = ask(running, "/v1/status")
    assert status == 200
    found = json.loads(body)["certificates"]
    return next(one for one in found if one["certificate"] == CERTIFICATE)  # type: ignore[no-any-return]


def test_health_and_readiness(running: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(running, "/healthz") == (200, b"ok\n")
    assert ask(running, "/readyz") == (200, b"ok\n")

    def gone(*args: object, **named: object) -> object:
        raise StoreUnavailable("The database is locked.")

    monkeypatch.setattr(running.store, "change_counter", gone)
    wait_until(lambda: ask(running, "/readyz") == (503, b"The database is locked.\n"))
    assert ask(running, "/healthz") == (200, b"ok\n")
    monkeypatch.setattr(running.store, "status", gone)
    assert ask(running, "/v1/status")[0] == 503


def test_status_shows_four_separate_facts(running: RunningAgent) -> None:
    assert certificate(running)["state"] == "wanted"
    client = running.enrolled(CERTIFICATE)
    generation = running.publish(CERTIFICATE)
    one = certificate(running)
    assert one["state"] == "issued"
    assert one["issued"]["generation"] == generation  # type: ignore[index]
    (puller,) = one["pullers"]  # type: ignore[misc]
    assert (puller["offered"], puller["pulled"]["generation"]) == (generation, 0)
    client.get(bundle_path(CERTIFICATE))
    (puller,) = certificate(running)["pullers"]  # type: ignore[misc]
    assert (puller["pulled"]["generation"], puller["installed"]["generation"]) == (generation, 0)
    leaf = one["issued"]["leaf_sha256"]  # type: ignore[index]
    for served, matches in (("cd" * 32, False), (leaf, True)):
        receipt = Receipt(
            CERTIFICATE,
            generation,
            "ab" * 32,
            "installed",
            "none",
            (Served(served, START + 1000, None),),
            START,
        )
        body = encode_batch("receipts", [receipt.encode().decode()])
        assert client.send("POST", RECEIPTS_PATH, body).status == 200
        (puller,) = certificate(running)["pullers"]  # type: ignore[misc]
        assert puller["installed"]["generation"] == generation
        assert puller["served"]["matches"] is matches
        assert certificate(running)["state"] == ("served" if matches else "not served")
        text = ask(running, "/metrics")[1].decode()
        assert re.findall(r"relay_certificate_served\{.*\} (.*)", text) == [str(float(matches))]
    for error, state, samples in (
        ("install/cannot-be-seen", "installed", []),
        ("install/not-running", "not served", ["0.0"]),
    ):
        receipt = Receipt(CERTIFICATE, generation, "ab" * 32, "installed", error, (), START)
        body = encode_batch("receipts", [receipt.encode().decode()])
        assert client.send("POST", RECEIPTS_PATH, body).status == 200
        assert certificate(running)["state"] == state
        text = ask(running, "/metrics")[1].decode()
        assert re.findall(r"relay_certificate_served\{.*\} (.*)", text) == samples


def test_numbers_for_prometheus(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    generation = running.publish(CERTIFICATE)
    client.get("/nothing")
    status, body = ask(running, "/metrics")
    text = body.decode()
    assert status == 200
    (shown,) = re.findall(r'relay_certificate_generation\{.*stage="issued"\} (.*)', text)
    assert int(float(shown)) == generation
    assert 'relay_requests_total{signed="yes",status="404"} ' in text
    assert f'relay_certificate_failures{{certificate="{CERTIFICATE}"}} 0.0' in text


def test_nothing_can_be_changed_and_no_secret_is_in_reach(running: RunningAgent) -> None:
    """Without a token; with one, tests/unit/operator looks at every call."""
    client = running.enrolled(CERTIFICATE)
    token = running.token(CERTIFICATE)
    running.publish(CERTIFICATE)
    status, document = ask(running, "/openapi.json")
    assert status == 200
    paths = json.loads(document)["paths"]
    state = running.settings.state_directory
    secrets = [
        b"PRIVATE KEY",
        keys.read_secret(state / keys.SIGNING_KEY_FILE).hex().encode(),
        token.seed.hex().encode(),
        token.encode().encode(),
        b"sealed",
        client.signing.seed().hex().encode(),
    ]
    for path, methods in paths.items():
        concrete = path.replace("{certificate}", CERTIFICATE).replace("{puller}", client.id)
        for method, call in methods.items():
            status, body = ask(running, concrete, method.upper())
            assert status == (200 if call["x-role"] == "read" else 403), (method, path)
            for secret in secrets:
                assert secret not in body, path


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/v1/keys", "/../etc/passwd", "/static/x"])
def test_there_is_nothing_else(running: RunningAgent, path: str) -> None:
    assert ask(running, path)[0] == 404


@pytest.mark.lab
def test_one_bad_look_at_the_store_is_not_the_last(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **named: object) -> object:
        raise ValueError("nobody thought of this")

    with monkeypatch.context() as patched:
        patched.setattr(running.store, "change_counter", broken)
        wait_until(lambda: ask(running, "/readyz") == (503, b"unexpected ValueError\n"))
    wait_until(lambda: ask(running, "/readyz") == (200, b"ok\n"))
