"""Wanted by the form, enrolled with the line that the page shows, seen to turn served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import browser, chromium, watched
from tests.intranet import Intranet
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.line import Agent, Puller, wait_until

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(chromium() is None, reason="chromium is not installed"),
]
NAME = "intranet.example.com"
OPERATOR = free_port()


@pytest.fixture
def ca() -> Iterator[LabCa]:
    with LabCa(TableResolver(None), http_port=free_port(), retry_after=None) as ca:
        yield ca


@pytest.fixture
def agent(tmp_path: Path, ca: LabCa) -> Agent:
    made = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
    relay = free_port()
    made.init(
        *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
        *("--challenge-listen", f"127.0.0.1:{ca.http_port}"),
        *("--relay-listen", f"127.0.0.1:{relay}"),
        *("--operator-listen", f"127.0.0.1:{OPERATOR}"),
    )
    return made


def test_from_the_form_to_served(tmp_path: Path, ca: LabCa, agent: Agent) -> None:
    puller = Puller(tmp_path / "puller")
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "internal-puller"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m internal_puller "$@"\n')
    program.chmod(0o755)
    url = f"http://127.0.0.1:{OPERATOR}"
    live = tmp_path / "puller" / "tls" / NAME
    with agent.serving(), Intranet(tmp_path / "intranet", live) as intranet, browser() as chrome:
        token = agent.call("access", "create", "me", "--role", "operate").out.strip()
        with watched(chrome) as visitor:
            page = visitor.page()
            _add(page, url, token)
            line = page.locator("#line").inner_text()
            assert line.startswith("internal-puller enroll <<< ")
            variables = puller.variables()
            variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
            subprocess.run(["bash", "-c", line], env=variables, check=True, timeout=60)
            puller.target(
                *(NAME, ca.root_pem, "--preset", "none"),
                *("--format", "fullchain", "--format", "privkey"),
                *("--reload-command", " ".join(intranet.command("reload"))),
                *("--probe", f"127.0.0.1:{intranet.port}/{NAME}", "--probe-timeout", "3"),
            )
            page.goto(f"{url}/certificates/{NAME}")
            page.locator(".fact.no", has_text="served").or_(
                page.locator(".fact.unknown", has_text="served")
            ).first.wait_for()
            wait_until(lambda: agent.certificate(NAME)["issued"], 60)
            puller.pull()
            page.goto(url)
            row = page.locator(f"tr[data-certificate='{NAME}']")
            row.locator(".fact.yes", has_text="served").wait_for(timeout=40_000)
            assert "Everything is served" in page.get_by_role("status").inner_text()
            page.goto(f"{url}/agent")
            assert "good" in page.locator("main").inner_text()
            _revoke(page, url)
            assert list(ca.revoked.values()) == [4]
            assert visitor.complaints == []
            assert all(one.startswith(url) for one in visitor.requests), visitor.requests


def _add(page: Any, url: str, token: str) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("main").get_by_role("button").click()
    page.wait_for_url(f"{url}/")
    page.get_by_role("link", name="Add a certificate").click()
    page.get_by_label("Names, one a line").fill(NAME)
    page.get_by_role("button", name="Add, and make a token").click()


def _revoke(page: Any, url: str) -> None:
    page.goto(f"{url}/certificates/{NAME}")
    page.get_by_text("Revoke the newest generation").click()
    page.get_by_label("Reason").select_option("superseded")
    page.get_by_label("Yes, revoke it").check()
    page.get_by_role("button", name="Revoke", exact=True).click()
    page.locator(".fault", has_text="superseded").wait_for()
