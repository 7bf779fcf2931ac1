"""`doctor` advises what to do about each thing that it can meet on the way of a reader's hit."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError, SSLError

from tests.support.app import run
from traffic_analytics.cli.tracker_script import TrackerScript, find_tracker_script
from traffic_analytics.health import FORWARDED_ENTRIES
from traffic_analytics.hits.page_hit import TEST_SITE

BLOG = "https://blog.example/"
BASE = "https://blog.example/.ghost/analytics"
HITS = f"{BASE}/api/v1/page_hit"
SITE = "940b73e9-4952-4752-b23d-9486f999c47e"
PAGES = re.compile(re.escape(f"{BASE}/v0/pipes/api_top_pages.json"))


def page(host: str = HITS, more: str = "") -> str:
    return f'<head><script src="/public/ghost-stats.min.js" data-host="{host}" {more} tb_site_uuid="{SITE}"></script>'


def failed(reason: Exception) -> requests.ConnectionError:
    """Return the error that requests raises for one of urllib3."""
    return requests.ConnectionError(MaxRetryError(None, BLOG, reason))  # type: ignore[arg-type] # a pool


class Way:
    """A working way of a hit through requests-mock; a test replaces one of its responses."""

    def __init__(self, tinybird: Any) -> None:
        self.mock = tinybird
        self.counted = True
        tinybird.get("http://tinybird.example/", text="")
        tinybird.get("http://tinybird.example/v0/pipes/api_active_visitors.json", json={"data": []})
        tinybird.get("http://127.0.0.1:3000/ready", json={})
        tinybird.get(BLOG, text=page())
        tinybird.get(f"{BLOG}public/ghost-stats.min.js", text="")
        tinybird.get(f"{BASE}/info", headers=self.entries)
        tinybird.post(HITS, status_code=202, json={})
        tinybird.get(PAGES, json=self.statistics)

    def entries(self, request: Any, context: Any) -> str:
        """Count the entries that one appending proxy leaves."""
        context.headers[FORWARDED_ENTRIES] = "2" if "X-Forwarded-For" in request.headers else "1"
        return ""

    def statistics(self, request: Any, _context: Any) -> dict[str, Any]:
        """Count the hit from the second query on."""
        is_second = "limit=2" in request.query
        return {"data": [{"pathname": request.qs["pathname"][0]}] if is_second and self.counted else []}


@pytest.fixture
def way(tinybird: Any, monkeypatch: pytest.MonkeyPatch) -> Way:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    way = Way(tinybird)
    tinybird.get(f"{BASE}/info", text=way.entries)
    return way


def doctor(start: Any, **environment: str) -> str:
    given = {"TRUST_PROXY": "1", "STATS_TARGET": "http://tinybird.example", "TINYBIRD_ADMIN_TOKEN": "p.admin"}
    output: str = run(start(**given | environment), "doctor", "blog.example").output
    return output


def test_a_hit_is_followed_to_the_statistics_and_marked_as_no_blogs(start: Any, way: Way) -> None:
    output = doctor(start)

    assert "FAIL" not in output
    assert output.splitlines()[-1] == f"ok    statistics at {BASE}"
    sent = next(each for each in way.mock.request_history if each.url.startswith(HITS))
    assert sent.headers["x-site-uuid"] == sent.json()["payload"]["site_uuid"] == "00000000-0000-4000-8000-000000000000"
    assert sent.json()["payload"]["pathname"].startswith("/traffic-analytics-test/")


@pytest.mark.parametrize(
    ("url", "response", "words"),
    [
        (BLOG, {"status_code": 503}, "page blog.example: is answered 503: is Ghost running"),
        (BLOG, {"exc": requests.ConnectTimeout}, "page blog.example: cannot be reached ("),
        (BLOG, {"exc": failed(NameResolutionError("blog.example", None, OSError()))}, "(DNS has no address"),  # type: ignore[arg-type]
        (BLOG, {"exc": failed(NewConnectionError(None, "refused"))}, "(nothing accepts the connection): are"),  # type: ignore[arg-type]
        (BLOG, {"exc": failed(SSLError())}, "(the certificate is not accepted): are the address"),
        (BLOG, {"text": page(more="data-datasource='other'")}, "names the data source other"),
        (BLOG, {"text": page("http://blog.example/api/v1/page_hit")}, "browsers block http on a page of https"),
        (BLOG, {"text": page("https://api.tinybird.co/v0/events")}, f"set tinybird__tracker__endpoint to {HITS}"),
        (f"{BLOG}public/ghost-stats.min.js", {"status_code": 404}, "is answered 404: let the proxy pass it to Ghost"),
        (f"{BASE}/info", {"status_code": 502}, "the proxy gets no answer: is the service running"),
        (f"{BASE}/info", {"text": "Ghost"}, "let the proxy pass /.ghost/analytics/ to this service on port 3000"),
        (HITS, {"status_code": 301, "headers": {"Location": "https://x/"}}, "test hit: is redirected to https://x/"),
        (HITS, {"status_code": 401, "json": {}}, "test hit: its URL is not signed: HMAC_SECRET needs a proxy"),
        (HITS, {"status_code": 503, "json": {"message": "full"}}, "test hit: is refused (full): the service's log"),
        (HITS, {"exc": requests.ReadTimeout}, "test hit: cannot be reached ("),
        (PAGES, {"status_code": 403, "json": {}}, "refuses a token signed with TINYBIRD_ADMIN_TOKEN"),
        (PAGES, {"status_code": 508, "json": {}}, "is this service itself: set STATS_TARGET"),
        (PAGES, {"json": {"data": []}}, "do not count the hit after 15 s"),
    ],
    ids=str,
)
def test_one_broken_link_ends_with_its_advice(
    url: Any, response: dict[str, Any], words: str, start: Any, way: Way
) -> None:
    way.mock.register_uri("POST" if url == HITS else "GET", url, **response)

    *good, last = doctor(start).splitlines()

    assert last.startswith("FAIL")
    assert words in last
    assert [each for each in good if each.startswith("FAIL")] == []


def test_a_private_blog_counts_no_readers(start: Any, way: Way) -> None:
    way.mock.get(BLOG, status_code=302, headers={"Location": f"{BLOG}private/?r=%2F"})
    way.mock.get(f"{BLOG}private/", text="")

    assert "the blog is private" in doctor(start)


@pytest.mark.parametrize(("origins", "is_hidden"), [("*", False), ("*, *", True), (None, True)])
def test_a_page_of_another_origin_must_see_the_response(
    origins: str | None, is_hidden: bool, start: Any, way: Way
) -> None:
    way.mock.get("https://www.blog.example/", text=page())
    way.mock.get(BLOG, status_code=301, headers={"Location": "https://www.blog.example/"})
    way.mock.get("https://www.blog.example/public/ghost-stats.min.js", text="")
    headers = {"Access-Control-Allow-Origin": origins} if origins else {}
    way.mock.post(HITS, status_code=202, json={}, headers=headers)

    assert ("its response is hidden from the page" in doctor(start)) == is_hidden


@pytest.mark.parametrize(
    ("trusted", "entries", "with_forged", "words"),
    [
        ("true", 1, 1, None),
        ("true", 1, 2, "visitors can choose their address: set TRUST_PROXY=1"),
        ("2", 2, 3, None),
        ("1", 2, 3, "2 add to X-Forwarded-For, so that all visitors have the address of a proxy: set TRUST_PROXY=2"),
        ("3", 2, 3, "2 add to X-Forwarded-For, so that visitors can choose their address: set TRUST_PROXY=2"),
        ("false", 1, 1, "1 add to X-Forwarded-For, so that all visitors have the address of a proxy"),
        ("false", 0, 0, None),
        ("0", 0, 1, None),
        ("1", 0, 0, "none adds X-Forwarded-For"),
        ("true", 0, 1, "none adds X-Forwarded-For"),
    ],
)
def test_the_number_of_proxies_is_compared_with_the_setting(
    trusted: str, entries: int, with_forged: int, words: str | None, start: Any, way: Way
) -> None:
    def count(request: Any, context: Any) -> str:
        context.headers[FORWARDED_ENTRIES] = str(with_forged if "X-Forwarded-For" in request.headers else entries)
        return ""

    way.mock.get(f"{BASE}/info", text=count)

    line = next(
        each for each in doctor(start, TRUST_PROXY=trusted).splitlines() if each.split()[1].startswith("proxies")
    )

    assert line == "ok    proxies" if words is None else line.startswith(f"FAIL  proxies: {words}")


def test_statistics_of_tinybird_itself_are_followed_there(start: Any, way: Way) -> None:
    way.mock.get("http://tinybird.example/v0/pipes/api_top_pages.json", json=way.statistics)

    assert "ok    statistics at http://tinybird.example\n" in doctor(start, STATS_TARGET="")
    assert "not tried: TINYBIRD_ADMIN_TOKEN is not set" in doctor(start, TINYBIRD_ADMIN_TOKEN="")


@pytest.mark.parametrize(
    ("html", "found"),
    [
        (
            '<SCRIPT SRC="https://cdn/ghost-stats.min.js" data-token="t" data-datasource="d"></SCRIPT>',
            TrackerScript("https://cdn/ghost-stats.min.js", "", "d", "t", ""),
        ),
        (page("h"), TrackerScript("/public/ghost-stats.min.js", "h", "analytics_events", "", SITE)),
        ('<script src="a.js"></script>' + page("h") + page("second"), "h"),
        ("<script>ghost-stats</script><a src='ghost-stats.js'><!-- " + page() + " -->", None),
        ("", None),
    ],
)
def test_the_script_is_found_in_a_page(html: str, found: TrackerScript | str | None) -> None:
    script = find_tracker_script(html)

    assert (script.host if isinstance(found, str) and script else script) == found


@pytest.mark.parametrize(("header", "entries"), [(None, "0"), ("192.0.2.1", "1"), ("192.0.2.1, ::1,x", "3")])
def test_info_counts_the_entries_of_proxies(header: str | None, entries: str, service: Any) -> None:
    response = service.client.get("/info", headers={"X-Forwarded-For": header} if header else {})

    assert response.headers[FORWARDED_ENTRIES] == entries
    assert response.json == {"build": ""}


def test_the_test_site_is_accepted_beside_the_allowed_sites(start: Any) -> None:
    service = start(ALLOWED_SITES=SITE)
    statuses = [
        service.hit(headers={"x-site-uuid": site}).status_code
        for site in (SITE, TEST_SITE, "00000000-0000-4000-8000-000000000001")
    ]

    assert statuses == [202, 202, 403]
