"""Access to the dashboard: login, sessions, and this machine without a key."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.support.app import OTHER_SITE, SITE
from tests.support.dashboard import KEY, ON, OWN_PAGE, Dashboard
from tests.support.tokens import ADMIN
from traffic_analytics.dashboard.attempts import MOST_FAILURES, WINDOW, Attempts
from traffic_analytics.dashboard.sessions import SESSION_SECONDS
from traffic_analytics.dashboard.tokens import SITE_PIPES, TOKEN_SECONDS
from traffic_analytics.errors import ConfigurationError, TokenRefused
from traffic_analytics.settings import Settings
from traffic_analytics.tinybird.jwt import JwtVerifier

if TYPE_CHECKING:
    from pathlib import Path

    import requests_mock

FOR_OPERATORS = ["token.json", f"token.json?site={SITE}", "health.json"]


def test_without_a_session_there_is_a_login_page_and_no_token(dashboard: Dashboard) -> None:
    page = dashboard.get("")

    assert (page.status_code, 'name="key"' in page.text) == (200, True)
    assert [dashboard.get(path).status_code for path in FOR_OPERATORS] == [401] * len(FOR_OPERATORS)
    assert dashboard.get("session.json").get_json() == {"isLoggedIn": False}


def test_the_right_key_opens_the_dashboard_until_the_session_ends(dashboard: Dashboard) -> None:
    response = dashboard.log_in()

    assert (response.status_code, response.headers["Location"]) == (303, "./")
    assert 'name="key"' not in dashboard.get("").text
    assert [dashboard.get(path).status_code for path in FOR_OPERATORS] == [200] * len(FOR_OPERATORS)
    assert dashboard.get("session.json").get_json() == {"isLoggedIn": True}
    dashboard.now += timedelta(seconds=SESSION_SECONDS)
    assert [dashboard.get(path).status_code for path in FOR_OPERATORS] == [401] * len(FOR_OPERATORS)


def test_logging_out_ends_the_session_of_this_browser(dashboard: Dashboard) -> None:
    dashboard.log_in()

    assert dashboard.client.post("/dashboard/logout", headers=OWN_PAGE).status_code == HTTPStatus.SEE_OTHER

    assert dashboard.get("token.json").status_code == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("key", ["", KEY[:-1], KEY + "x", KEY.upper(), "schlüssel", "\ud800"[:0] + "\x00"])
def test_a_wrong_key_opens_nothing(dashboard: Dashboard, key: str) -> None:
    response = dashboard.log_in(key)

    assert response.status_code == HTTPStatus.UNAUTHORIZED
    assert "This is not the key." in response.text
    assert "Set-Cookie" not in response.headers
    assert dashboard.get("token.json").status_code == HTTPStatus.UNAUTHORIZED


def test_after_ten_wrong_keys_even_the_right_one_has_to_wait(dashboard: Dashboard) -> None:
    for _ in range(MOST_FAILURES):
        assert dashboard.log_in("wrong").status_code == HTTPStatus.UNAUTHORIZED

    response = dashboard.log_in()

    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert 0 < int(response.headers["Retry-After"]) <= WINDOW
    assert "Set-Cookie" not in response.headers


def test_wrong_keys_are_forgotten_after_a_minute() -> None:
    now = 1000.0
    attempts = Attempts(lambda: now)
    for _ in range(MOST_FAILURES):
        assert attempts.wait() == 0
        attempts.note_failure()
    assert attempts.wait() == WINDOW

    now += WINDOW - 1
    assert attempts.wait() == 1
    now += 1
    assert attempts.wait() == 0


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_the_dashboard_only_and_for_no_script(
    dashboard: Dashboard, scheme: str, is_secure: bool
) -> None:
    value, *flags = dashboard.log_in(**{"X-Forwarded-Proto": scheme}).headers["Set-Cookie"].split("; ")

    # Without a path a browser takes that of the request: /dashboard, below any prefix of a proxy.
    assert set(flags) - {"Secure"} == {"HttpOnly", "SameSite=Strict", f"Max-Age={SESSION_SECONDS}"} | {
        flag for flag in flags if flag.startswith("Expires=")
    }
    assert ("Secure" in flags) == is_secure
    assert KEY not in value
    assert dashboard.client.get_cookie("traffic_analytics_dashboard", path="/dashboard") is not None


@pytest.mark.parametrize("path", ["login", "logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://other.localhost"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[evil"},
    ],
)
def test_a_page_of_another_origin_cannot_log_in_or_out(
    dashboard: Dashboard, path: str, headers: dict[str, str]
) -> None:
    dashboard.log_in()

    response = dashboard.client.post(f"/dashboard/{path}", data={"key": KEY}, headers=headers)

    assert response.status_code == HTTPStatus.FORBIDDEN
    assert "Set-Cookie" not in response.headers


def test_behind_a_proxy_that_changes_the_host_the_forwarded_one_counts(dashboard: Dashboard) -> None:
    headers = {"Origin": "http://blog.example", "X-Forwarded-Host": "blog.example"}

    assert dashboard.client.post("/dashboard/login", data={"key": KEY}, headers=headers).status_code == 303


@pytest.mark.parametrize("cookie", ["", "x", "WzFd.signature", "W10", "é"])
def test_an_invented_session_opens_nothing(dashboard: Dashboard, cookie: str) -> None:
    dashboard.client.set_cookie("traffic_analytics_dashboard", cookie, path="/dashboard")

    assert dashboard.get("token.json").status_code == HTTPStatus.UNAUTHORIZED


def test_a_new_key_ends_all_sessions(tmp_path: Path, upstream: requests_mock.Mocker, dashboard: Dashboard) -> None:
    dashboard.log_in()
    cookie = dashboard.client.get_cookie("traffic_analytics_dashboard", path="/dashboard")
    other = Dashboard(tmp_path, upstream, key=KEY[::-1])
    assert cookie is not None
    other.client.set_cookie("traffic_analytics_dashboard", cookie.value, path="/dashboard")

    assert dashboard.get("token.json").status_code == HTTPStatus.OK
    assert other.get("token.json").status_code == HTTPStatus.UNAUTHORIZED


def test_a_token_reads_the_pipes_of_one_site_for_minutes(dashboard: Dashboard) -> None:
    dashboard.log_in()

    answer = dashboard.get(f"token.json?site={SITE}").get_json()

    now = dashboard.now.timestamp()
    scopes = JwtVerifier(ADMIN).verify(answer["token"], now)
    assert {pipe: dict(scopes.fixed_params(pipe)) for pipe in SITE_PIPES} == {
        pipe: {"site_uuid": SITE} for pipe in SITE_PIPES
    }
    assert set(scopes.pipes) == set(SITE_PIPES)
    assert answer["seconds"] == TOKEN_SECONDS
    assert ADMIN not in str(answer)
    with pytest.raises(TokenRefused, match="expired"):
        JwtVerifier(ADMIN).verify(answer["token"], now + TOKEN_SECONDS)


def test_the_token_of_all_sites_reads_their_list_only(dashboard: Dashboard) -> None:
    dashboard.log_in()

    answer = dashboard.get("token.json").get_json()

    scopes = JwtVerifier(ADMIN).verify(answer["token"], dashboard.now.timestamp())
    assert {pipe: dict(fixed) for pipe, fixed in scopes.pipes.items()} == {"api_sites": {}}
    assert (answer["site"], answer["sites"]) == (None, [])


def test_the_sites_of_allowed_sites_are_named_for_targets_that_list_none(
    tmp_path: Path, upstream: requests_mock.Mocker
) -> None:
    dashboard = Dashboard(tmp_path, upstream, ALLOWED_SITES=f"{SITE},{OTHER_SITE}")
    dashboard.log_in()

    assert dashboard.get("token.json").get_json()["sites"] == sorted([SITE, OTHER_SITE])


@pytest.mark.parametrize("site", ["", "x", SITE + "0", f"{SITE},{OTHER_SITE}", f"{SITE}\n"])
def test_a_token_needs_the_uuid_of_a_site(dashboard: Dashboard, site: str) -> None:
    dashboard.log_in()

    assert dashboard.client.get("/dashboard/token.json", query_string={"site": site}).status_code == 400


def test_without_a_key_this_machine_needs_no_login(tmp_path: Path, upstream: requests_mock.Mocker) -> None:
    local = Dashboard(tmp_path, upstream, key=None)

    assert 'name="key"' not in local.get("").text
    assert "Log out" not in local.get("").text
    assert local.get(f"token.json?site={SITE}", **{"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert local.get("token.json", Host="127.0.0.1:3000").status_code == HTTPStatus.OK
    assert local.get("token.json", Host="[::1]:3000").status_code == HTTPStatus.OK
    assert local.log_in("any").status_code == HTTPStatus.SEE_OTHER


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "blog.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-Port": "443"},
        {"X-Client-Ip": "203.0.113.7"},
        {"X-Original-Host": "blog.example"},
        {"CF-Connecting-IP": "203.0.113.7"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
    ],
)
def test_without_a_key_other_machines_and_their_pages_see_nothing(
    tmp_path: Path, upstream: requests_mock.Mocker, headers: dict[str, str]
) -> None:
    local = Dashboard(tmp_path, upstream, key=None)

    for path in ("", "token.json", "health.json", "share/x/"):
        assert (path, local.get(path, **headers).status_code) == (path, HTTPStatus.FORBIDDEN)


@pytest.mark.parametrize(
    ("target", "status"), [("http://evil.example/dashboard/token.json", 403), ("http://localhost/dashboard/", 200)]
)
def test_without_a_key_the_host_of_an_absolute_target_counts_too(
    tmp_path: Path, upstream: requests_mock.Mocker, target: str, status: int
) -> None:
    local = Dashboard(tmp_path, upstream, key=None)

    response = local.client.get("/dashboard/token.json", environ_overrides={"RAW_URI": target})

    assert response.status_code == status


@pytest.mark.parametrize(
    ("environment", "mistake"),
    [
        ({"DASHBOARD": "true", "LISTEN_HOST": "127.0.0.1"}, "DASHBOARD: needs STATS_TARGET"),
        ({"DASHBOARD": "true", "LISTEN_HOST": "127.0.0.1"}, "DASHBOARD: needs TINYBIRD_ADMIN_TOKEN"),
        (ON, "DASHBOARD_KEY: must be set, or LISTEN_HOST must be a loopback address"),
        (ON | {"LISTEN_HOST": "::"}, "DASHBOARD_KEY: must be set, or LISTEN_HOST must be a loopback address"),
        (ON | {"DASHBOARD_KEY": "k" * 31}, "DASHBOARD_KEY: must have at least 32 characters"),
    ],
)
def test_settings_that_leave_the_dashboard_open_or_empty_stop_the_start(
    environment: dict[str, str], mistake: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env({"PROXY_TARGET": "http://tinybird.example"} | environment)

    assert mistake in str(raised.value)
    assert "kkk" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_loopback_needs_no_key(host: str) -> None:
    environment = {"PROXY_TARGET": "http://tinybird.example", "TINYBIRD_TRACKER_TOKEN": "p.token", "LISTEN_HOST": host}
    settings = Settings.from_env(environment | ON)

    assert settings.dashboard
    assert settings.dashboard_key is None
