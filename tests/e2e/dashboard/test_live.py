"""Numbers that change while a page is open, and failures, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.support.app import OTHER_SITE, SITE
from tests.support.chromium import Tab
from tests.support.dashboard_pages import World, metric
from tests.support.processes import PATIENCE, wait_until
from tests.support.running import running_with_store
from tests.support.visits import draw_visits, now_utc, store_visits

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

FOCUSED = "document.activeElement.innerText"
REFRESHED = 30_000
"""Longest wait for numbers that the page queries every few seconds, in milliseconds."""


def test_the_focus_remains_when_what_has_it_is_shown_again(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}")
    page.locator("#pages .more").press("Enter")
    assert page.evaluate(FOCUSED) == "Show fewer"
    page.locator("#campaigns").get_by_role("button", name="Mediums").press("Enter")
    tab.loaded()
    assert page.evaluate(FOCUSED) == "Mediums"

    page = tab.open()
    page.get_by_role("link", name="other.example").focus()
    today = page.locator(f"[data-site='{OTHER_SITE}'] .today")
    visits = int(today.inner_text())
    world.send_hit()
    expect(today).to_have_text(str(visits + 1), timeout=REFRESHED)
    assert page.evaluate(FOCUSED) == "other.example"


def test_a_hit_appears_while_the_tab_is_visible_and_not_while_it_is_hidden(tab: Tab, world: World) -> None:
    def active_queries() -> int:
        return sum("api_active_visitors" in url for url in tab.requests)

    tab.page.add_init_script(
        "let isHidden = false; Object.defineProperty(document, 'hidden', {get: () => isHidden});"
        "window.hide = value => { isHidden = value; document.dispatchEvent(new Event('visibilitychange')); };"
    )
    tab.page.clock.install(time=world.now)
    page = tab.open(f"?site={OTHER_SITE}")
    live = page.locator(".live")
    expect(live).to_have_text(re.compile("now"))
    visitors = int(live.inner_text().split()[0])  # those of other tests, too
    page.evaluate("hide(true)")
    before = active_queries()
    world.send_hit()
    page.clock.run_for(60_000)
    assert active_queries() == before
    assert live.inner_text().startswith(f"{visitors} visitor")

    page.evaluate("hide(false)")
    expect(live).to_have_text(f"{visitors + 1} visitors now")
    world.send_hit()
    page.clock.run_for(16_000)
    expect(live).to_have_text(f"{visitors + 2} visitors now")
    tab.loaded()


def test_the_first_hit_of_an_empty_store_appears_by_itself(browser: Browser, tmp_path: Path) -> None:
    with running_with_store(tmp_path, DASHBOARD="true") as (service, store):
        tab = Tab(browser, f"http://127.0.0.1:{service.port}")
        page = tab.open()
        expect(page.get_by_text("Waiting for the first hit.")).to_be_visible()
        tab.screenshot("empty")
        assert tab.violations() == []
        assert page.get_by_role("button", name="Log out").count() == 0

        store_visits(store.url, draw_visits(SITE, now_utc(), days=1, visits=1), "blog.example")

        page.get_by_role("link", name="blog.example").click()
        tab.loaded()
        expect(page.locator("[data-metric=visits] .metric-value")).to_have_text("1")
        page.goto(f"{tab.origin}/dashboard/?site={OTHER_SITE}")
        tab.loaded()
        expect(page.get_by_text("No hits in this range.")).to_be_visible()
        assert tab.violations() == []
        assert tab.faults == []
        tab.context.close()


def test_a_stopped_store_is_shown_as_such(browser: Browser, tmp_path: Path) -> None:
    with running_with_store(tmp_path, DASHBOARD="true", STATS_CACHE_SECONDS="1") as (service, store):
        hits = draw_visits(SITE, now_utc(), days=3, visits=20)
        store_visits(store.url, hits, "blog.example")
        tab = Tab(browser, f"http://127.0.0.1:{service.port}")
        page = tab.open(f"?site={SITE}")
        visitors = metric(page, "visits")
        store.kill()

        # The gateway returns the last good responses once they are older than a second.
        wait_until(lambda: tab.open(f"?site={SITE}") and page.get_by_text("These numbers are").count())
        assert metric(page, "visits") == visitors
        assert tab.violations() == []
        tab.screenshot("stale")

        page.get_by_label("Range").select_option("Last 7 days")
        expect(page.get_by_text("The statistics do not answer.").first).to_be_visible()
        expect(page.get_by_text("cannot be reached").first).to_be_visible()
        tab.screenshot("stopped")
        assert tab.violations() == []

        store.start()
        expect(page.get_by_text("The statistics do not answer.")).to_have_count(0, timeout=2 * PATIENCE * 1000)
        expect(page.locator(".live")).to_contain_text("now")
        tab.context.close()
