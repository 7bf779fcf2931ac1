"""The dashboard in a real Chromium, against numbers that are computed from the events."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.support.app import OTHER_SITE, SITE
from tests.support.chromium import Tab, chromium, find_chromium
from tests.support.dashboard import KEY
from tests.support.processes import PATIENCE, wait_until
from tests.support.reference import Reference
from tests.support.running import running_with_store
from tests.support.visits import draw_visits, now_utc, store_visits
from traffic_analytics.dashboard.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.support.embedded_store import EmbeddedStore
    from tests.support.service import Service

HOSTILE_SITE = "0f0f0f0f-e1de-4c2a-a9be-bc96c06dff2e"

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium")]

PIPES = {
    "pages": ("api_top_pages", "pathname"),
    "sources": ("api_top_sources", "source"),
    "locations": ("api_top_locations", "location"),
    "campaigns": ("api_top_utm_campaigns", "utm_campaign"),
    "devices": ("api_top_devices", "device"),
    "browsers": ("api_top_browsers", "browser"),
    "systems": ("api_top_os", "os"),
}
UTM = {"Sources": "source", "Mediums": "medium", "Contents": "content", "Terms": "term"}


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("dashboard")
    with running_with_store(directory, DASHBOARD="true", DASHBOARD_KEY=KEY) as (service, store):
        yield World(service, store)


@pytest.fixture
def visitor(browser: Browser, world: World) -> Iterator[Tab]:
    """Open a tab that is not logged in; its page's clock stands at the time of the hits."""
    tab = Tab(browser, world.origin)
    tab.page.clock.set_fixed_time(world.now)
    yield tab
    tab.context.close()
    assert tab.faults == []


@pytest.fixture
def tab(visitor: Tab) -> Tab:
    log_in(visitor)
    return visitor


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


# Access


def test_logging_in_and_out(visitor: Tab) -> None:
    log_in(visitor)
    page = visitor.loaded()
    expect(page.get_by_role("heading", name="Blogs")).to_be_visible()
    (cookie,) = visitor.context.cookies()
    assert (cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == ("/dashboard", True, "Strict")

    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Access key")).to_be_visible()
    assert visitor.context.cookies() == []
    page.go_back()
    expect(page.get_by_label("Access key")).to_be_visible()


def test_a_wrong_key_is_refused_and_announced(visitor: Tab) -> None:
    log_in(visitor, "a-wrong-key")

    expect(visitor.page.get_by_role("alert")).to_have_text("This is not the key.")
    assert visitor.violations() == []
    assert visitor.context.cookies() == []
    (fault,) = visitor.faults
    assert "401" in fault
    visitor.faults.clear()


def test_a_link_from_another_site_shows_the_dashboard_to_whom_is_logged_in(tab: Tab) -> None:
    tab.page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(content_type="text/html", body=f'<a href="{tab.origin}/dashboard/">here</a>'),
    )
    tab.page.goto("http://elsewhere.example/")

    tab.page.get_by_text("here").click()

    expect(tab.page.get_by_role("heading", name="Blogs")).to_be_visible()
    tab.faults = [fault for fault in tab.faults if "elsewhere.example" not in fault]


def test_a_share_link_shows_one_blog_only(visitor: Tab, world: World) -> None:
    link = world.service.command("dashboard", "share", SITE).splitlines()[0].removeprefix("/dashboard/")
    page = visitor.open(f"{link}?range=7d")

    expect(page.get_by_role("heading", level=1)).to_have_text("blog.example")
    agree(page, world, world.days(6, 0))
    page.locator("#sources").get_by_role("button", name="Google: filter by it").click()
    visitor.loaded()
    agree(page, world, world.days(6, 0), source="Google")
    assert page.get_by_role("link", name="Health").count() == 0
    assert visitor.violations() == []
    visitor.page.goto(f"{visitor.origin}/dashboard/?site={SITE}")
    expect(page.get_by_label("Access key")).to_be_visible()


FETCH = """async ([path, token]) => {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const response = await fetch(path, {headers});
  return [response.status, await response.text()];
}"""


def test_a_share_link_reads_no_other_numbers(visitor: Tab, world: World) -> None:
    link = world.service.command("dashboard", "share", SITE).splitlines()[0].removeprefix("/dashboard/")
    page = visitor.open(link)
    token = page.evaluate("fetch('token.json').then(r => r.json())")["token"]

    def fetch(path: str, token: str = "") -> tuple[int, str]:
        status, text = page.evaluate(FETCH, [path, token])
        return status, text

    assert fetch(f"token.json?site={OTHER_SITE}")[0] == 403
    assert fetch("../../token.json")[0] == 401
    assert fetch(f"../../token.json?site={OTHER_SITE}")[0] == 401
    assert fetch("../../health.json")[0] == 401
    pipe = f"/v0/pipes/api_sites.json?site_uuid={OTHER_SITE}"
    status, text = fetch(pipe, token)
    assert (status, SITE in text, OTHER_SITE in text) == (200, True, False)
    assert "other.example" not in text
    assert fetch(f"/v0/pipes/api_monitoring_ingestion.json?site_uuid={OTHER_SITE}", token)[0] == 403
    visitor.faults.clear()


def test_an_expired_share_link_says_so(visitor: Tab, world: World) -> None:
    link = Sessions(KEY).sign_share(SITE, world.now.timestamp() - 1)

    visitor.page.goto(f"{visitor.origin}/dashboard/share/{link}/")

    expect(visitor.page.get_by_text("expired")).to_be_visible()
    assert visitor.violations() == []
    visitor.faults.clear()  # the status is 404


# Numbers


def test_all_blogs_are_listed_by_host_with_their_numbers(tab: Tab, world: World) -> None:
    page = tab.loaded()

    (row,) = world.reference.rows("api_sites", {"site_uuid": SITE})
    cells = page.locator(f"[data-site='{SITE}']").locator("th, td").all_inner_texts()
    assert cells[0] == "blog.example"
    assert int(cells[2]) == row["visits_today"]
    assert int(cells[3].replace(",", "")) == row["visits_week"]
    change = (row["visits_week"] - row["visits_week_before"]) / row["visits_week_before"]
    assert cells[4].endswith(f"{abs(change):.0%}")
    assert page.locator("tbody th").all_inner_texts() == ["blog.example", "other.example"]
    assert tab.requests.count(f"{tab.origin}/v0/pipes/api_sites.json?timezone=UTC") == 1


def test_blogs_are_sorted_by_a_column_and_opened(tab: Tab) -> None:
    page = tab.loaded()

    page.get_by_role("button", name="Blog").click()
    page.get_by_role("button", name="Blog").click()
    assert page.locator("tbody th").all_inner_texts() == ["other.example", "blog.example"]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"

    page.get_by_role("link", name="other.example").click()
    tab.loaded()
    expect(page.get_by_role("heading", level=1)).to_have_text("other.example")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Blogs")


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("", 29, 0),
        ("range=today", 0, 0),
        ("range=yesterday", 1, 1),
        ("range=7d", 6, 0),
        ("range=90d", 89, 0),
        ("range=12m", 364, 0),
        ("range=all", 1000, 0),
        ("range=custom&from={20}&to={10}", 20, 10),
        ("range=custom&from={10}&to={20}", 20, 10),
        ("range=custom&from=nonsense&to=2026-02-31&", 0, 0),
        ("range=nonsense", 29, 0),
    ],
)
def test_every_range_shows_the_numbers_of_its_days(tab: Tab, world: World, query: str, first: int, last: int) -> None:
    query = re.sub(r"\{(\d+)\}", lambda days: world.day(int(days[1])), query)

    page = tab.open(f"?site={SITE}&{query}")

    agree(page, world, world.days(first, last))


FILTERS = [(column, card) for card, (_, column) in PIPES.items()]


@pytest.mark.parametrize(("column", "card"), FILTERS)
def test_a_click_on_a_row_filters_everything_by_it(tab: Tab, world: World, column: str, card: str) -> None:
    page = tab.open(f"?site={SITE}")
    values = list(shown(page, card))
    value = "" if "" in values else values[0]

    page.locator(f"#{card} tr[data-value='{value}']").get_by_role("button").click()
    tab.loaded()

    agree(page, world, world.days(29, 0), **{column: value})
    filtered = metric(page, "pageviews")
    page.reload()
    tab.loaded()
    assert metric(page, "pageviews") == filtered
    page.get_by_role("list", name="Filters").get_by_role("button").click()
    tab.loaded()
    agree(page, world, world.days(29, 0))
    page.go_back()
    tab.loaded()
    assert metric(page, "pageviews") == filtered


@pytest.mark.parametrize(("tab_name", "column"), UTM.items())
def test_each_list_of_campaigns_has_the_numbers_and_filters(tab: Tab, world: World, tab_name: str, column: str) -> None:
    days = world.days(29, 0)
    page = tab.open(f"?site={SITE}")

    page.locator("#campaigns").get_by_role("button", name=tab_name, exact=True).click()
    tab.loaded()

    rows = expected(world.rows(f"api_top_utm_{column}s", *days), f"utm_{column}")
    assert shown(page, "campaigns") == rows
    value = max(rows, key=lambda each: rows[each])
    page.locator("#campaigns tbody").get_by_role("button").first.click()
    tab.loaded()
    assert f"utm_{column}={value}" in page.url
    assert metric(page, "visits") == str(rows[value])


def test_filters_add_up_and_a_country_of_the_map_is_one(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}&device=desktop&source=")

    page.locator(".map path", has_text="United States").click()
    tab.loaded()

    agree(page, world, world.days(29, 0), device="desktop", source="", location="US")
    chips = page.get_by_role("list", name="Filters").get_by_role("button").all_inner_texts()
    assert chips == ["Device: Desktop ✕", "Source: Direct ✕", "Location: United States ✕"] or set(chips) == {
        "Device: Desktop ✕",
        "Source: Direct ✕",
        "Location: United States ✕",
    }


def test_numbers_are_compared_with_the_period_before(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}&range=7d")

    current = sum(row["visits"] for row in world.rows("api_kpis", *world.days(6, 0)))
    before = sum(row["visits"] for row in world.rows("api_kpis", *world.days(13, 7)))
    change = page.locator("[data-metric=visits] .change").inner_text()
    assert change.endswith(f"{abs(current - before) / before:.0%}")
    assert ("▲" in change) == (current > before)


def test_the_chart_is_read_by_keyboard_and_as_a_table(tab: Tab, world: World) -> None:
    rows = world.rows("api_kpis", *world.days(6, 0))
    before = world.rows("api_kpis", *world.days(13, 7))
    page = tab.open(f"?site={SITE}&range=7d")
    chart = page.get_by_role("slider")

    chart.focus()
    chart.press("Home")
    chart.press("ArrowRight")

    text = f"{rows[1]['visits']} ({before[1]['visits']} in the period before)"
    assert (chart.get_attribute("aria-valuetext") or "").endswith(f": {text}")
    assert page.locator(".readout").inner_text().endswith(text)
    page.get_by_text("Show as table").click()
    cells = page.locator(".as-table tbody td").all_inner_texts()
    assert cells == [str(each["visits"]) for pair in zip(rows, before, strict=True) for each in pair]


def test_the_pointer_reads_the_chart_and_metrics_can_be_chosen(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}&range=7d")

    page.locator("[data-metric=pageviews]").click()

    rows = world.rows("api_kpis", *world.days(6, 0))
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".readout")).to_contain_text(f": {rows[3]['pageviews']} (")
    assert "metric=pageviews" in page.url
    page.reload()
    tab.loaded()
    expect(page.locator("[data-metric=pageviews]")).to_have_attribute("aria-pressed", "true")


def test_a_single_day_is_shown_by_hours(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}&range=yesterday")

    page.get_by_text("Show as table").click()

    rows = world.rows("api_kpis", *world.days(1, 1))
    assert page.locator(".as-table tbody th").all_inner_texts() == [row["date"][11:16] for row in rows]
    assert page.locator(".as-table tbody td:nth-child(2)").all_inner_texts() == [str(row["visits"]) for row in rows]


def test_what_is_shown_can_be_saved(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}&range=7d")

    with page.expect_download() as list_download:
        page.get_by_role("button", name="Download Sources as CSV").click()
    with page.expect_download() as chart_download:
        page.get_by_role("button", name="Download the chart as CSV").click()

    head, *rows = read_csv(list_download.value.path())
    assert head == ["Sources", "Visitors"]
    sources = expected(world.rows("api_top_sources", *world.days(6, 0)), "source")
    assert {name: int(visits) for name, visits in rows} == {name or "Direct": sources[name] for name in sources}
    head, *rows = read_csv(chart_download.value.path())
    assert head == ["Time", "Visitors", "Views", "Bounce rate", "Visit duration"]
    kpis = world.rows("api_kpis", *world.days(6, 0))
    assert [row[:3] for row in rows] == [[row["date"], str(row["visits"]), str(row["pageviews"])] for row in kpis]
    assert chart_download.value.suggested_filename == "blog.example.csv"


HOSTILE = [
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "constructor",
    "__proto__",
    "=1+1",
    "a;=1+1",
    'a"\t=1+1',
    "A" * 200,
]


def test_hostile_values_of_hits_are_shown_and_saved_as_text(tab: Tab, world: World) -> None:
    columns = [column for _, column in PIPES.values()]
    hits = [
        hit | dict.fromkeys(columns, value) | {"session_id": f"hostile-{number}"}
        for number, value in enumerate(HOSTILE)
        for hit in draw_visits(HOSTILE_SITE, world.now, days=1, visits=1)[:1]
    ]
    store_visits(world.store.url, hits, "<b>hostile</b>.example")

    page = tab.open(f"?site={HOSTILE_SITE}&range=7d&metric=constructor&source=__proto__")
    assert page.get_by_role("list", name="Filters").inner_text() == "Source: __proto__ ✕"
    page = tab.open(f"?site={HOSTILE_SITE}&range=7d")

    for card, (_, column) in PIPES.items():
        names = page.locator(f"#{card} tbody th").all_text_contents()
        assert sorted(map(str.lower, names)) == sorted(map(str.lower, HOSTILE)), column
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Sources as CSV").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    # Apostrophes before formulas; quotes where any language's spreadsheet separates cells.
    assert {"'=1+1,1", '"a;=1+1",1', '"a""\t=1+1",1'} <= set(text.splitlines())


def read_csv(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_a_range_is_chosen_and_gone_back_from(tab: Tab, world: World) -> None:
    page = tab.open(f"?site={SITE}")

    page.get_by_label("Range").select_option("Custom")
    page.get_by_label("From", exact=True).fill(world.day(40))
    tab.loaded()
    page.get_by_label("To", exact=True).fill(world.day(30))
    tab.loaded()

    agree(page, world, world.days(40, 30))
    page.go_back()
    page.go_back()
    page.go_back()
    tab.loaded()
    agree(page, world, world.days(29, 0))


def test_a_value_that_still_grows_is_read_as_such(tab: Tab) -> None:
    page = tab.open(f"?site={SITE}&range=7d")
    chart = page.get_by_role("slider")

    chart.press("End")
    assert " so far (" in (chart.get_attribute("aria-valuetext") or "")
    chart.press("ArrowLeft")
    assert "so far" not in (chart.get_attribute("aria-valuetext") or "")


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


# Looks


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


# Live numbers and failures


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
