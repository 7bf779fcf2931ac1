"""Logging in and out, and share links, in a real Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.app import OTHER_SITE, SITE
from tests.support.chromium import Tab
from tests.support.dashboard import KEY
from tests.support.dashboard_pages import World, agree, log_in
from traffic_analytics.dashboard.sessions import Sessions

pytestmark = pytest.mark.e2e


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
