"""Pages of the dashboard, and the numbers that they should show, computed from the events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.support.app import OTHER_SITE, SITE
from tests.support.chromium import Tab
from tests.support.dashboard import KEY
from tests.support.reference import Reference
from tests.support.visits import draw_visits, now_utc, store_visits

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.support.embedded_store import EmbeddedStore
    from tests.support.service import Service

PIPES = {
    "pages": ("api_top_pages", "pathname"),
    "sources": ("api_top_sources", "source"),
    "locations": ("api_top_locations", "location"),
    "campaigns": ("api_top_utm_campaigns", "utm_campaign"),
    "devices": ("api_top_devices", "device"),
    "browsers": ("api_top_browsers", "browser"),
    "systems": ("api_top_os", "os"),
}


class World:
    """Service and store with two sites, and the hits that they hold."""

    def __init__(self, service: Service, store: EmbeddedStore) -> None:
        self.service = service
        self.store = store
        self.now = now_utc()
        self.hits = draw_visits(SITE, self.now, days=70, visits=400)
        store_visits(store.url, self.hits, "blog.example")
        store_visits(store.url, draw_visits(OTHER_SITE, self.now, days=20, visits=30), "other.example")
        self.reference = Reference(self.hits, self.now, whole=False)
        self.sent = 0
        self.origin = f"http://127.0.0.1:{service.port}"

    def send_hit(self) -> None:
        """Store a hit of a new visitor of the other site, now."""
        self.sent += 1
        store_visits(
            self.store.url, draw_visits(OTHER_SITE, now_utc(), days=1, visits=1, seed=1 + self.sent), "other.example"
        )

    def rows(self, pipe: str, first: str, last: str, **filters: str) -> list[dict[str, Any]]:
        return self.reference.rows(pipe, {"site_uuid": SITE, "date_from": first, "date_to": last, **filters})

    def days(self, first: int, last: int) -> tuple[str, str]:
        """Return two days, as numbers of days before today."""
        return self.day(first), self.day(last)

    def day(self, ago: int) -> str:
        return f"{self.now.fromtimestamp(self.now.timestamp() - ago * 86_400, self.now.tzinfo):%Y-%m-%d}"


def log_in(tab: Tab, key: str = KEY) -> None:
    tab.page.goto(f"{tab.origin}/dashboard/")
    tab.page.get_by_label("Access key").fill(key)
    tab.page.get_by_role("button", name="Log in").click()


def shown(page: Page, card: str) -> dict[str, int]:
    """Read the rows of a card by their values."""
    more = page.locator(f"#{card} .more", has_text="Show all")
    if more.count():
        more.click()
        expect(page.locator(f"#{card} .more")).to_have_text("Show fewer")
    script = "rows => rows.map(row => [row.dataset.value, Number(row.cells[1].textContent.replaceAll(',', ''))])"
    return dict(page.locator(f"#{card} tbody tr").evaluate_all(script))


def expected(rows: list[dict[str, Any]], column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[column]] = counts.get(row[column], 0) + row["visits"]
    return counts


def metric(page: Page, name: str) -> str:
    return page.locator(f"[data-metric={name}] .metric-value").inner_text()


def agree(page: Page, world: World, days: tuple[str, str], **filters: str) -> None:
    """Compare all lists and numbers of a site's page with those of the events."""
    for card, (pipe, column) in PIPES.items():
        assert shown(page, card) == expected(world.rows(pipe, *days, **filters), column), (card, filters)
    rows = world.rows("api_kpis", *days, **filters)
    visits = sum(row["visits"] for row in rows)
    assert metric(page, "visits") == f"{visits:,}"
    assert metric(page, "pageviews") == f"{sum(row['pageviews'] for row in rows):,}"
    if visits:
        bounces = 100 * sum(row["visits"] * row["bounce_rate"] for row in rows) / visits
        assert abs(int(metric(page, "bounce_rate").rstrip("%")) - bounces) <= 1
        seconds = sum(row["visits"] * row["avg_session_sec"] for row in rows) / visits
        assert abs(duration(metric(page, "avg_session_sec")) - seconds) <= 1


def duration(text: str) -> int:
    parts = re.fullmatch(r"(?:(\d+)m )?(\d+)s", text)
    assert parts is not None
    return 60 * int(parts[1] or 0) + int(parts[2])
