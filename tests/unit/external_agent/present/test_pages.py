"""Pages of the dashboard without a browser: what they show, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from external_agent.facts.access import Role, digest_of, token_text
from shared.contract.batches import encode_batch
from shared.contract.wire import RECEIPTS_PATH, DirectReport, Receipt, Served
from tests.unit.external_agent.harness import CERTIFICATE, RunningAgent, running_agent

DIRECT = "direct.example.com"


def reported(running: RunningAgent, *, outcome: str = "installed", leaf: str = "cd" * 32) -> str:
    """Let a puller tell of a certificate that it gets by itself; return its id."""
    running.enrolled(CERTIFICATE)
    (puller,) = running.store.pullers()
    now = int(running.clock())
    report = DirectReport(
        certificate=DIRECT,
        names=(DIRECT,),
        generation=now,
        not_after=now + 90 * 86400,
        leaf_sha256="ab" * 32,
        next_renewal=now + 60 * 86400,
        outcome=outcome,
        error="none",
        served=(Served(leaf, now + 90 * 86400, None),),
        at=now,
    )
    running.store.record_direct(puller.id, [report], now=now)
    return puller.id


def test_a_certificate_that_a_puller_gets_by_itself_has_a_page(tmp_path: Path) -> None:
    with running_agent(tmp_path, CERTIFICATE) as running:
        puller = reported(running)
        with httpx.Client(base_url=f"http://127.0.0.1:{running.port('operator')}") as visitor:
            first = visitor.get("/").text
            assert f'href="/direct/{puller}/{DIRECT}"' in first
            page = visitor.get(f"/direct/{puller}/{DIRECT}")
            assert page.status_code == 200
            assert "serves another certificate" in page.text and "ab" * 32 in page.text
            assert visitor.get(f"/direct/{puller}/nothing.example.com").status_code == 404
            assert visitor.get(f"/direct/{'0' * 64}/{DIRECT}").status_code == 404


def test_what_was_not_seen_is_not_called_served(tmp_path: Path) -> None:
    """Right after an issue nothing needs attention; that is not to say that all is served."""
    with running_agent(tmp_path, CERTIFICATE) as running:
        client = running.enrolled(CERTIFICATE)
        generation = running.publish(CERTIFICATE)
        issued = running.store.newest_issued(CERTIFICATE)
        assert issued is not None
        assert issued.leaf_sha256 is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{running.port('operator')}") as visitor:
            first = visitor.get("/").text
            assert "Everything is served." not in first
            assert "Nothing needs attention; not seen to be served: 1." in first
            for error, words in (
                ("none", "Everything is served."),
                ("install/seen-before", "whether its server serves it is not known"),
                ("install/not-running", "its server does not serve it: the server is not running"),
            ):
                served = (Served(issued.leaf_sha256, 9, None),)
                now = int(running.clock())
                receipt = Receipt(
                    CERTIFICATE, generation, "ab" * 32, "installed", error, served, now
                )
                body = encode_batch("receipts", [receipt.encode().decode()])
                assert client.send("POST", RECEIPTS_PATH, body).status == 200
                page = visitor.get("/").text
                assert words in page
                assert ("Everything is served." in page) is (error == "none")


@pytest.fixture
def signed_in(tmp_path: Path) -> object:
    with running_agent(tmp_path, CERTIFICATE) as running:
        text, now = token_text(b"t" * 32), int(running.clock())
        running.store.create_access(
            "ops", Role.OPERATE, digest_of(text), now=now, expires_at=now + 900, actor="test"
        )
        base = f"http://127.0.0.1:{running.port('operator')}"
        with httpx.Client(base_url=base, headers={"Origin": base}) as visitor:
            assert visitor.post("/sign-in", data={"token": text}).status_code == 303
            yield visitor, running


def form_token(page: str) -> str:
    return page.partition('name="form_token" value="')[2].partition('"')[0]


def test_a_revocation_has_to_be_meant(signed_in: tuple[httpx.Client, RunningAgent]) -> None:
    visitor, running = signed_in
    running.enrolled(CERTIFICATE)
    generation = running.publish(CERTIFICATE)
    page = visitor.get(f"/certificates/{CERTIFICATE}").text
    assert "cannot be undone" in page
    form = {"form_token": form_token(page), "reason": "superseded", "generation": str(generation)}
    answer = visitor.post(f"/certificates/{CERTIFICATE}/revoke", data=form)
    assert answer.status_code == 303
    issued = running.store.newest_issued(CERTIFICATE)
    assert issued is not None and issued.revoked_at is None
    for odd in ({"reason": "because"}, {"generation": "x" * 30}):
        refused = visitor.post(
            f"/certificates/{CERTIFICATE}/revoke", data={**form, "sure": "yes", **odd}
        )
        assert refused.status_code < 500 and "Refused" in refused.text


def test_another_token_from_the_page(signed_in: tuple[httpx.Client, RunningAgent]) -> None:
    visitor, _ = signed_in
    page = visitor.get(f"/certificates/{CERTIFICATE}").text
    form = {"form_token": form_token(page)}
    made = visitor.post(f"/certificates/{CERTIFICATE}/token", data=form)
    assert "internal-puller enroll &lt;&lt;&lt; shr1_" in made.text and "Added" not in made.text


def test_cas_accounts_and_alerts_have_a_page(
    signed_in: tuple[httpx.Client, RunningAgent],
) -> None:
    visitor, running = signed_in
    now = int(running.clock())
    running.store.note_alert_sent("ops", problem="the server did not take the message", now=now)
    text = visitor.get("/agent").text
    assert "ca.example" in text and "not tried yet" in text
    assert "ops" in text and "did not take" in text
    assert "認証局と通知" in visitor.get("/agent?lang=ja").text


FOREIGN = ("https://evil.example.net", "http://127.0.0.1:1", "null")


def tokens_and_status(
    visitor: httpx.Client, running: RunningAgent, form: dict[str, str], **headers: str
) -> tuple[int, int]:
    """Ask for an enrolment token by the page's form; return how many there are then."""
    path = f"/certificates/{CERTIFICATE}/token"
    answer = visitor.post(path, data=form, headers=headers)
    return len(running.store.tokens()), answer.status_code


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_form_of_another_origin_changes_nothing(
    signed_in: tuple[httpx.Client, RunningAgent], origin: str
) -> None:
    """Even with the cookie and the form's secret; and nobody is signed in by another's page."""
    visitor, running = signed_in
    form = {"form_token": form_token(visitor.get(f"/certificates/{CERTIFICATE}").text)}
    assert tokens_and_status(visitor, running, form, Origin=origin) == (0, 403)
    said = visitor.post("/sign-in", data={"token": "x"}, headers={"Origin": origin})
    assert said.status_code == 403
    assert tokens_and_status(visitor, running, form) == (1, 200)


@pytest.mark.parametrize("host", ["evil.example.net", "evil.example.net:8080", ""])
def test_pages_under_another_name_are_not_given_out(
    signed_in: tuple[httpx.Client, RunningAgent], host: str
) -> None:
    """A name of the attacker's that leads here (DNS rebinding)."""
    visitor, _ = signed_in
    for path in ("/", "/sign-in", f"/certificates/{CERTIFICATE}", "/static/style.css"):
        answer = visitor.get(path, headers={"Host": host})
        assert (answer.status_code, CERTIFICATE in answer.text) == (421, False), path


@pytest.mark.parametrize("form", [{}, {"form_token": ""}, {"form_token": "A" * 22}])
def test_a_form_without_its_secret_changes_nothing(
    signed_in: tuple[httpx.Client, RunningAgent], form: dict[str, str]
) -> None:
    visitor, running = signed_in
    tokens, status = tokens_and_status(visitor, running, form)
    assert tokens == 0
    assert status in (400, 403)
