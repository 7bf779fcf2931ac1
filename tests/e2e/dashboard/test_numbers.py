"""Lists, filters, ranges and the chart in a real Chromium, against numbers that are computed from the events."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.app import SITE
from tests.support.chromium import Tab
from tests.support.dashboard_pages import PIPES, World, agree, expected, metric, shown
from tests.support.visits import draw_visits, store_visits

pytestmark = pytest.mark.e2e

HOSTILE_SITE = "0f0f0f0f-e1de-4c2a-a9be-bc96c06dff2e"
UTM = {"Sources": "source", "Mediums": "medium", "Contents": "content", "Terms": "term"}


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
    assert page.evaluate("document.activeElement.name") == "to"

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
