"""Debian's Chromium driven by Playwright, and a page that notices what it should not do."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield started
        started.close()


@dataclass
class Watched:
    """A context whose requests and complaints are remembered."""

    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def page(self) -> Page:
        page = self.context.new_page()
        page.on("request", self._requested)
        page.on("console", lambda one: one.type == "error" and self.complaints.append(one.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)


@contextlib.contextmanager
def watched(started: Browser, **options: object) -> Iterator[Watched]:
    context = started.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    yield Watched(context)
    context.close()
