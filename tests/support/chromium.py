"""Drive a Chromium and record what must not happen: console errors, and requests that leave the origin."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.processes import PATIENCE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SCREENSHOTS = ROOT / "tests" / "e2e" / "screenshots"
"""Artefacts of a run, which git ignores."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A tab of a fresh browser, with the reader's clock at UTC; `faults` are what must not happen."""

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.faults: list[str] = []
        self.requests: list[str] = []
        settings = {"locale": "en-US", "timezone_id": "Etc/UTC", "viewport": {"width": 1280, "height": 900}} | options
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self._note(message.type in ("error", "warning"), message.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("request", lambda request: self._note_request(request.url))

    def _note(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(text)

    def _note_request(self, url: str) -> None:
        self.requests.append(url)
        self._note(not url.startswith((f"{self.origin}/", "blob:")), f"a request left the origin: {url}")

    def open(self, path: str = "") -> Page:
        """Open a path below /dashboard/ and wait until its content is there."""
        self.page.goto(f"{self.origin}/dashboard/{path}")
        return self.loaded()

    def loaded(self) -> Page:
        """Wait until the page has loaded its numbers."""
        self.page.wait_for_selector("[data-loaded]")
        expect(self.page.locator("[aria-busy=true]")).to_have_count(0, timeout=PATIENCE * 1000)
        return self.page

    def screenshot(self, name: str) -> Path:
        """Save a picture of the whole page among the artefacts."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def violations(self) -> list[str]:
        """Return what axe finds on the page, WCAG 2.2 AA and best practices."""
        found = Axe().run(self.page, options={"runOnly": {"type": "tag", "values": RULES}}).response["violations"]
        return [f"{each['id']}: {node['target']}" for each in found for node in each["nodes"]]
