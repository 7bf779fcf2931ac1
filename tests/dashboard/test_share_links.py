"""Share links: one site, read only, until they expire."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.support.app import OTHER_SITE, SITE
from tests.support.dashboard import KEY, Dashboard
from tests.support.tokens import ADMIN
from traffic_analytics.dashboard.tokens import TOKEN_SECONDS
from traffic_analytics.tinybird.jwt import JwtVerifier

if TYPE_CHECKING:
    from pathlib import Path

    import requests_mock


def share(dashboard: Dashboard, *options: str, site: str = SITE) -> str:
    """Make a link with the operator's command; return its path below /dashboard/."""
    result = dashboard.command("share", site, *options)
    assert result.exit_code == 0, result.output
    link: str = result.stdout.splitlines()[0]
    return link.removeprefix("/dashboard/")


def test_a_link_shows_one_site_without_a_login(dashboard: Dashboard) -> None:
    link = share(dashboard)

    page = dashboard.get(link)
    answer = dashboard.get(f"{link}token.json").get_json()

    assert page.status_code == HTTPStatus.OK
    assert 'data-root="../../"' in page.text
    assert "Set-Cookie" not in page.headers
    scopes = JwtVerifier(ADMIN).verify(answer["token"], dashboard.now.timestamp())
    assert {fixed["site_uuid"] for fixed in scopes.pipes.values()} == {SITE}
    assert (answer["site"], answer["sites"], answer["seconds"]) == (SITE, [], TOKEN_SECONDS)
    assert dashboard.get(f"{link}token.json?site={SITE}").status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{link}token.json?site=" + OTHER_SITE, 403),
        ("{link}token.json?site=", 400),
        ("{link}health.json", 404),
        ("{link}login", 404),
        ("token.json", 401),
        ("token.json?site=" + SITE, 401),
        ("health.json", 401),
    ],
)
def test_a_link_opens_nothing_else(dashboard: Dashboard, path: str, status: int) -> None:
    link = share(dashboard)
    assert dashboard.get(link).status_code == HTTPStatus.OK

    assert dashboard.get(path.format(link=link)).status_code == status


def test_a_link_ends_with_its_days_and_its_tokens_with_it(dashboard: Dashboard) -> None:
    link = share(dashboard, "--days", "2")
    dashboard.now += timedelta(days=2, seconds=-90)

    answer = dashboard.get(f"{link}token.json").get_json()

    assert 80 <= answer["seconds"] <= 90
    dashboard.now += timedelta(seconds=90)
    assert dashboard.get(link).status_code == HTTPStatus.NOT_FOUND
    assert "expired" in dashboard.get(link).text
    assert dashboard.get(f"{link}token.json").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("changed", [lambda text: text[:-3] + "/", lambda text: text.replace("share/", "share/A")])
def test_a_changed_link_opens_nothing(dashboard: Dashboard, changed: object) -> None:
    assert callable(changed)

    assert dashboard.get(changed(share(dashboard))).status_code == HTTPStatus.NOT_FOUND


def test_a_link_is_no_session_and_a_session_no_link(dashboard: Dashboard) -> None:
    link = share(dashboard).removeprefix("share/").removesuffix("/")
    dashboard.client.set_cookie("traffic_analytics_dashboard", link, path="/dashboard")
    assert dashboard.get("token.json").status_code == HTTPStatus.UNAUTHORIZED

    dashboard.log_in()
    cookie = dashboard.client.get_cookie("traffic_analytics_dashboard", path="/dashboard")
    assert cookie is not None
    assert dashboard.get(f"share/{cookie.value}/").status_code == HTTPStatus.NOT_FOUND


def test_a_new_key_ends_all_links(tmp_path: Path, upstream: requests_mock.Mocker, dashboard: Dashboard) -> None:
    link = share(dashboard)

    assert Dashboard(tmp_path, upstream, key=KEY[::-1]).get(link).status_code == HTTPStatus.NOT_FOUND


def test_a_link_without_its_last_slash_leads_to_the_page(dashboard: Dashboard) -> None:
    link = share(dashboard).removesuffix("/")

    response = dashboard.get(link)

    assert response.status_code == HTTPStatus.SEE_OTHER
    assert response.headers["Location"] == link.removeprefix("share/") + "/"


def test_the_command_prints_the_whole_link_below_a_public_address(dashboard: Dashboard) -> None:
    result = dashboard.command("share", SITE, "--url", "https://blog.example/.ghost/analytics/dashboard/")

    assert result.stdout.startswith("https://blog.example/.ghost/analytics/dashboard/share/")
    assert "valid until 2026-12-22 12:30 UTC" in result.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["blog.example"], "must be the UUID of a site"),
        ([SITE, "--days", "0"], "0 is not in the range"),
    ],
)
def test_the_command_refuses_what_is_no_site_or_no_time(dashboard: Dashboard, words: list[str], problem: str) -> None:
    result = dashboard.command("share", *words)

    assert result.exit_code != 0
    assert problem in result.output


def test_links_need_a_key(tmp_path: Path, upstream: requests_mock.Mocker) -> None:
    local = Dashboard(tmp_path, upstream, key=None)

    assert "set DASHBOARD_KEY first" in local.command("share", SITE).output
    assert local.get("share/x/").status_code == HTTPStatus.NOT_FOUND
