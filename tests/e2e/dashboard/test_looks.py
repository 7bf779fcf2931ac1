"""Accessibility, colour schemes, widths and the keyboard, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.chromium import Tab
from tests.support.dashboard_pages import World, log_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

SCHEMES = ["light", "dark"]
VIEWS = {"blogs": "", "blog": f"?site={SITE}", "health": "?view=health"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_in_any_view_scheme_and_width(
    browser: Browser, world: World, view: str, width: int, scheme: str
) -> None:
    tab = Tab(browser, world.origin, color_scheme=scheme, viewport={"width": width, "height": 900})
    log_in(tab)
    page = tab.open(VIEWS[view])
    tab.screenshot(f"{view}-{scheme}-{width}")

    assert tab.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('.blogs')].every(each => each.offsetWidth <= innerWidth)")
    assert tab.faults == []
    tab.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_the_login_page(browser: Browser, world: World, scheme: str) -> None:
    tab = Tab(browser, world.origin, color_scheme=scheme)
    tab.page.goto(f"{tab.origin}/dashboard/")
    tab.screenshot(f"login-{scheme}")

    assert tab.violations() == []
    assert tab.faults == []
    tab.context.close()


def test_everything_is_reached_by_keyboard(tab: Tab) -> None:
    page = tab.open(f"?site={SITE}&range=7d")
    names = []
    for _ in range(80):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")
        )

    for name in ("Skip to the numbers", "Blogs", "Download Pages as CSV", "Direct: filter by it", "Mediums"):
        assert name in names
    assert any("arrow keys read the values" in name for name in names)
