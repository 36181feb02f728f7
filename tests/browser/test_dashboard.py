"""The dashboard in a real browser: first screen, languages, phone, keyboard, no script, no leak."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from external_agent.facts.access import Role, digest_of, token_text
from external_agent.records.rows import ErrorNote
from shared.contract.batches import encode_batch
from shared.contract.wire import RECEIPTS_PATH, Receipt, Served, bundle_path
from shared.issuing.renewal import DAY, HOUR
from tests.browser.axe import axe_source
from tests.browser.pages import browser, chromium, watched
from tests.unit.external_agent.harness import Client, RunningAgent, running_agent

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="chromium is not installed"),
]
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
HEALTHY = ("intranet.example.com", "mail.example.com", "wiki.example.com")
FAILING, DIFFERENT, SILENT = "erp.example.com", "portal.example.com", "vpn.example.com"
ALL = (*HEALTHY, FAILING, DIFFERENT, SILENT)


def report(client: Client, certificate: str, generation: int, leaf: str, at: int) -> None:
    seen = (Served(leaf, at + 80 * DAY, None),)
    receipt = Receipt(certificate, generation, "ab" * 32, "installed", "none", seen, at)
    body = encode_batch("receipts", [receipt.encode().decode()])
    assert client.send("POST", RECEIPTS_PATH, body).status == 200


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Three certificates that are well, and three that are not, each for a reason of its own."""
    base = tmp_path_factory.mktemp("agent")
    with running_agent(base, *ALL) as running:
        start = int(running.clock())
        clients = {
            name: running.enrolled(name, host=name.partition(".")[0] + "-server") for name in ALL
        }
        for name in ALL:
            generation = running.publish(name)
            clients[name].get("/v1/certificates")
            assert clients[name].get(bundle_path(name)).status == 200
            issued = running.store.newest_issued(name)
            assert issued is not None
            assert issued.leaf_sha256 is not None
            leaf = "cd" * 32 if name == DIFFERENT else issued.leaf_sha256
            report(clients[name], name, generation, leaf, start)
        running.clock.now += 60 * DAY
        _fail(running)
        for name in (one for one in ALL if one != SILENT):
            clients[name].get("/v1/certificates")
        yield running


def _fail(running: RunningAgent) -> None:
    """Let the renewal of one fail four times; the others are not due."""
    now = int(running.clock())
    with contextlib.closing(sqlite3.connect(running.settings.state_directory / "relay.db")) as raw:
        raw.execute("UPDATE certificates SET due_at = ?", (now + 10 * DAY,))
        raw.commit()
    running.store.request_renewal(FAILING, "an operator asked for it", now=now)
    (claim,) = running.store.claim_due("test", now=now, lease_seconds=60)
    note = ErrorNote(
        "issuance/rejected", "The CA refused: CAA record for example.com forbids.", now
    )
    running.store.record_failure(claim, note, failures=4, paused_until=now + 5 * HOUR, now=now)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def url(agent: RunningAgent) -> str:
    return f"http://127.0.0.1:{agent.port('operator')}"


@pytest.fixture(scope="module")
def token(agent: RunningAgent) -> str:
    text = token_text(secrets.token_bytes(32))
    now = int(agent.clock())
    agent.store.create_access(
        "ops", Role.OPERATE, digest_of(text), now=now, expires_at=now + 30 * DAY, actor="test"
    )
    return text


def sign_in(page: Any, url: str, token: str) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("main").get_by_role("button").click()
    page.wait_for_url(f"{url}/")


def picture(page: Any, name: str, tmp_path: Path) -> None:
    """Keep a screenshot; for the README, when they are to be taken anew."""
    anew = os.environ.get("RELAY_SCREENSHOTS") == "1"
    page.screenshot(path=str((IMAGES if anew else tmp_path) / name), full_page=True)


def test_the_first_screen_says_what_needs_somebody(chrome: Any, url: str, tmp_path: Path) -> None:
    with watched(chrome, viewport={"width": 1280, "height": 800}) as visitor:
        page = visitor.page()
        page.goto(url)
        assert page.get_by_role("status").inner_text() == "3 certificates need somebody."
        rows = page.locator("tr[data-certificate]")
        names = [row.get_attribute("data-certificate") for row in rows.all()]
        assert set(names[:3]) == {FAILING, DIFFERENT, SILENT}
        assert names[3:] == sorted(HEALTHY)
        text = {name: rows.nth(at).inner_text() for at, name in enumerate(names)}
        assert "CAA record for example.com forbids" in text[FAILING]
        assert "serves another certificate" in text[DIFFERENT]
        assert "was heard last at" in text[SILENT]
        for name in HEALTHY:
            assert "well" in text[name]
        assert page.locator("svg.life").count() == 6
        picture(page, "first-screen.png", tmp_path)
        assert visitor.complaints == []
        assert all(one.startswith(url) for one in visitor.requests), visitor.requests


def test_a_certificate_and_a_puller(chrome: Any, url: str, tmp_path: Path) -> None:
    with watched(chrome) as visitor:
        page = visitor.page()
        page.goto(url)
        page.get_by_role("link", name=DIFFERENT).click()
        page.wait_for_url(f"{url}/certificates/{DIFFERENT}")
        text = page.locator("main").inner_text()
        for words in ("served-differs", "internal-puller verify", "Orders, step by step", "issued"):
            assert words in text
        picture(page, "certificate.png", tmp_path)
        page.get_by_role("link", name="portal-server").click()
        assert "Audit trail" in page.locator("main").inner_text()
        assert page.goto(f"{url}/certificates/nobody.example.com").status == 404
        assert page.goto(f"{url}/nothing").status == 404


def test_in_japanese(chrome: Any, url: str, tmp_path: Path) -> None:
    with watched(chrome, locale="ja-JP") as visitor:
        page = visitor.page()
        page.goto(url)
        assert page.get_by_role("status").inner_text() == "3 件の証明書に対応が必要です。"
        assert page.locator("html").get_attribute("lang") == "ja"
        assert "とは異なる" in page.content() or "異なる証明書" in page.content()
        picture(page, "first-screen-ja.png", tmp_path)
        page.get_by_role("link", name="English").click()
        assert "need somebody" in page.get_by_role("status").inner_text()
        page.goto(url)  # it is remembered
        assert "need somebody" in page.get_by_role("status").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(chrome: Any, url: str, tmp_path: Path, scheme: str) -> None:
    size = {"width": 390, "height": 844}
    with watched(chrome, viewport=size, color_scheme=scheme, has_touch=True) as visitor:
        page = visitor.page()
        for path in ("/", f"/certificates/{FAILING}", "/pullers", "/agent", "/sign-in"):
            page.goto(url + path)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], path
        page.goto(url)
        picture(page, f"phone-{scheme}.png", tmp_path)


def test_by_keyboard_only(chrome: Any, url: str, token: str) -> None:
    with watched(chrome) as visitor:
        page = visitor.page()
        page.goto(f"{url}/sign-in")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").strip() == FAILING:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/certificates/{FAILING}")
        seen = "getComputedStyle(document.activeElement).outlineStyle"
        page.keyboard.press("Tab")
        assert page.evaluate(seen) != "none"


def test_without_javascript(chrome: Any, url: str, token: str) -> None:
    with watched(chrome, java_script_enabled=False) as visitor:
        page = visitor.page()
        sign_in(page, url, token)
        page.get_by_label("Name or host").fill("WIKI")
        page.get_by_role("button", name="Find").click()
        assert page.locator("tr[data-certificate]").count() == 1
        page.goto(f"{url}/?show=trouble")
        assert page.locator("tr[data-certificate]").count() == 3
        page.goto(f"{url}/certificates/{FAILING}")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume").click()
        assert page.get_by_role("button", name="Pause").is_visible()


def test_what_is_typed_is_kept_and_the_fault_is_named(
    chrome: Any, url: str, token: str, tmp_path: Path
) -> None:
    with watched(chrome) as visitor:
        page = visitor.page()
        sign_in(page, url, token)
        page.get_by_role("link", name="Add a certificate").click()
        page.get_by_label("Names, one a line").fill("*.new.example.com\nnew.example.com")
        page.get_by_label("Where the key is made").select_option("puller")
        page.get_by_role("button", name="Add, and make a token").click()
        assert "cannot be validated by http-01" in page.locator("#names-fault").inner_text()
        assert page.get_by_label("Names, one a line").input_value().startswith("*.new.example.com")
        assert page.get_by_label("Where the key is made").input_value() == "puller"
        picture(page, "add.png", tmp_path)


def test_a_form_from_elsewhere_is_refused(
    chrome: Any, url: str, token: str, agent: RunningAgent
) -> None:
    with watched(chrome) as visitor:
        page = visitor.page()
        sign_in(page, url, token)
        page.goto(f"{url}/certificates/{FAILING}")
        page.evaluate("document.querySelector('.actions input').value = 'forged'")
        page.get_by_role("button", name="Renew now").click()
        assert "too old" in page.locator("main").inner_text()
        other = f"http://localhost:{agent.port('operator')}"
        answer = page.request.post(
            f"{url}/certificates/{FAILING}/renew", headers={"Origin": "http://evil.example"}
        )
        assert answer.status == 403
        assert page.request.get(other, headers={"Host": "evil.example"}).status == 421
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{url}/sign-in")
        assert page.request.post(f"{url}/certificates/{FAILING}/renew").status == 403


def test_a_session_ends_with_its_token(chrome: Any, url: str, agent: RunningAgent) -> None:
    text, now = token_text(secrets.token_bytes(32)), int(agent.clock())
    row = agent.store.create_access(
        "gone", Role.OPERATE, digest_of(text), now=now, expires_at=now + DAY, actor="test"
    )
    with watched(chrome) as visitor:
        page = visitor.page()
        page.goto(f"{url}/sign-in")
        page.get_by_label("Access token").fill("shra_nonsense")
        page.get_by_role("main").get_by_role("button").click()
        assert "not good" in page.get_by_role("alert").inner_text()
        sign_in(page, url, text)
        (cookie,) = [one for one in visitor.context.cookies() if one["name"] == "session"]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        agent.store.void_access(row.id, now=now, actor="test")
        page.goto(f"{url}/add")
        page.wait_for_url(f"{url}/sign-in")


def test_it_refreshes_itself(chrome: Any, url: str, agent: RunningAgent) -> None:
    with watched(chrome) as visitor:
        page = visitor.page()
        page.clock.install()
        page.goto(url)
        before = page.locator("tr[data-certificate]").count()
        agent.store.add_certificate(
            "fresh.example.com",
            ["fresh.example.com"],
            directory_url="https://ca.example.com/directory",
            now=int(agent.clock()),
        )
        page.clock.fast_forward(31_000)
        page.locator("tr[data-certificate='fresh.example.com']").wait_for()
        assert page.locator("tr[data-certificate]").count() == before + 1
        agent.store.remove_certificate("fresh.example.com", now=int(agent.clock()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chrome: Any, url: str, token: str, scheme: str) -> None:
    with watched(chrome, color_scheme=scheme) as visitor:
        page = visitor.page()
        sign_in(page, url, token)
        for path in (
            "/",
            f"/certificates/{DIFFERENT}",
            "/pullers",
            "/agent",
            "/add",
            "/sign-in",
        ):
            page.goto(url + path)
            page.evaluate(axe_source())
            found = page.evaluate("axe.run()")["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in serious]
            assert told == [], path


def test_no_key_is_on_any_page(chrome: Any, url: str, agent: RunningAgent) -> None:
    """What the stand-in bundles hold of keys is on no page."""
    sealed = hashlib.sha256(b"sealed").hexdigest()
    with watched(chrome) as visitor:
        page = visitor.page()
        for path in ("/", *(f"/certificates/{name}" for name in ALL), "/pullers"):
            page.goto(url + path)
            text = page.content()
            assert "PRIVATE KEY" not in text
            assert sealed not in text
            assert not re.search(r"shra_|shr1_", text.replace("shra_nonsense", ""))
