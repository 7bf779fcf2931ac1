"""Follow a reader's hit from the blog's page to the statistics, as browser and dashboard do from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit
from uuid import uuid4

import requests
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError, SSLError

from traffic_analytics.cli.installation import TIMEOUT, explain_clock, explain_statistics, read_message
from traffic_analytics.cli.marked_hit import BROWSER, PATH, marked_hit, sign_for_test_site
from traffic_analytics.cli.steps import Step
from traffic_analytics.cli.tracker_script import TrackerScript, find_tracker_script
from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.health import FORWARDED_ENTRIES
from traffic_analytics.hits.page_hit import TEST_SITE
from traffic_analytics.hits.routes import HIT_PATH
from traffic_analytics.tinybird.transport import failure_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traffic_analytics.settings import Settings

PREFIX = "/.ghost/analytics"
FORGED_ADDRESS = "192.0.2.1"
"""Address for documentation; a proxy that appends leaves it in X-Forwarded-For."""
PIPE = "api_top_pages"
PATIENCE = 15
"""Number of queries, one a second, before a hit counts as missing from the statistics."""
ENABLE_ANALYTICS = (
    "has no ghost-stats.js: set tinybird__tracker__endpoint, tinybird__workspaceId and tinybird__adminToken in Ghost's"
    " configuration, restart Ghost, and turn on Settings > Analytics > Web analytics"
)

NO_PROXY = (
    "none adds X-Forwarded-For, so that all visitors have one address: let the proxy add it (nginx: proxy_set_header"
    " X-Forwarded-For $proxy_add_x_forwarded_for), or set TRUST_PROXY=false if there is no proxy"
)

CAUSES: dict[type, str] = {
    NameResolutionError: "DNS has no address for the name",
    NewConnectionError: "nothing accepts the connection",
    SSLError: "the certificate is not accepted",
}
"""Causes in words; requests has one class of error for the first two."""


class _Stop(Exception):
    """A step failed, and the next ones need it; the message is the advice."""


def check_blog(settings: Settings, url: str, stats: str | None) -> Iterator[Step]:
    """Try each step of the way; after one that fails, the steps that need it are left out."""
    name = f"page {url}"
    try:
        page = _fetch_page(url if "://" in url else f"https://{url}")
        yield Step(name)
        yield explain_clock(urlsplit(page.url).hostname, page)
        name = "script ghost-stats.js"
        script = _find_script(settings, page)
        yield Step(name)
        name = f"address of hits {script.host}"
        entries = _find_service(settings, page.url, script)
        yield Step(name)
        yield Step("proxies", _explain_proxies(settings, entries, _count_entries(script, FORGED_ADDRESS)))
        name = "test hit"
        pathname = f"{PATH}{uuid4()}/"
        _send_hit(script, page.url, pathname)
        yield Step(name)
        base = stats or (
            script.host.removesuffix(HIT_PATH) if settings.stats_target else _origin(settings.proxy_target)
        )
        name = f"statistics at {base}"
        if settings.tinybird_admin_token is None:
            yield Step(f"{name} (not tried: TINYBIRD_ADMIN_TOKEN is not set)")
            return
        _follow(base.rstrip("/"), sign_for_test_site(settings.tinybird_admin_token, PIPE), pathname)
        yield Step(name)
    except _Stop as stop:
        yield Step(name, str(stop))


def _fetch_page(url: str) -> requests.Response:
    page = _request("GET", url, "are the address, DNS and the proxy right?")
    if not page.ok:
        raise _Stop(f"is answered {page.status_code}: is Ghost running, and does the page exist?")
    if urlsplit(page.url).path.startswith("/private/"):
        raise _Stop("the blog is private, so its pages count no readers: make it public")
    return page


def _find_script(settings: Settings, page: requests.Response) -> TrackerScript:
    script = find_tracker_script(page.text)
    if script is None or not script.host:
        raise _Stop(ENABLE_ANALYTICS)
    source = urljoin(page.url, script.source)
    response = _request("GET", source, "does the proxy pass it to Ghost?")
    if not response.ok:
        raise _Stop(f"{source} is answered {response.status_code}: let the proxy pass it to Ghost")
    if script.data_source != DATA_SOURCES[0]:
        raise _Stop(f"names the data source {script.data_source}: remove tinybird__tracker__datasource from Ghost")
    if settings.allowed_sites is not None and script.site_uuid.lower() not in settings.allowed_sites:
        raise _Stop(f"is of the site {script.site_uuid}, which ALLOWED_SITES does not list: add it")
    return script


def _find_service(settings: Settings, page: str, script: TrackerScript) -> int:
    """Check that hits reach this service; return the number of proxies that add to X-Forwarded-For."""
    blog = urlsplit(page)
    own = f"{_origin(page)}{PREFIX}{HIT_PATH}"
    elsewhere = f"is not this service: set tinybird__tracker__endpoint to {own} in Ghost and restart it"
    if not script.host.endswith(HIT_PATH):
        raise _Stop(elsewhere)
    if blog.scheme == "https" and script.host.startswith("http:"):
        raise _Stop("browsers block http on a page of https: set tinybird__tracker__endpoint to its https address")
    info = _info(script)
    if FORWARDED_ENTRIES in info.headers:
        return int(info.headers[FORWARDED_ENTRIES])
    if info.status_code in (502, 503, 504):
        raise _Stop(
            f"the proxy gets no answer: is the service running, and does the proxy pass to port {settings.port}?"
        )
    if urlsplit(script.host).netloc != blog.netloc:
        raise _Stop(elsewhere)
    path = urlsplit(script.host).path.removesuffix(HIT_PATH)
    raise _Stop(f"another program answers: let the proxy pass {path}/ to this service on port {settings.port}")


def _info(script: TrackerScript, forwarded_for: str | None = None) -> requests.Response:
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
    return _request("GET", script.host.removesuffix(HIT_PATH) + "/info", "is the address right?", headers)


def _count_entries(script: TrackerScript, forwarded_for: str) -> int:
    return int(_info(script, forwarded_for).headers.get(FORWARDED_ENTRIES, 0))


def _explain_proxies(settings: Settings, entries: int, with_forged: int) -> str | None:
    """Compare TRUST_PROXY with the entries that arrive, without and with an entry that the client made up."""
    trusted = settings.trust_proxy
    if not entries:
        return NO_PROXY if trusted else None
    if trusted is True:
        can_forge = with_forged > entries
        return f"visitors can choose their address: set TRUST_PROXY={entries}" if can_forge else None
    if trusted == entries:
        return None
    cause = "all visitors have the address of a proxy" if trusted < entries else "visitors can choose their address"
    return f"{entries} add to X-Forwarded-For, so that {cause}: set TRUST_PROXY={entries}"


def _send_hit(script: TrackerScript, page: str, pathname: str) -> None:
    query = {"name": script.data_source} | ({"token": script.token} if script.token else {})
    response = _request(
        "POST",
        f"{script.host}?{urlencode(query)}",
        "is the address right?",
        {"User-Agent": BROWSER, "x-site-uuid": TEST_SITE, "Origin": _origin(page)},
        marked_hit(page, pathname),
    )
    status = response.status_code
    if 300 <= status < 400:
        raise _Stop(f"is redirected to {response.headers.get('Location')}: set tinybird__tracker__endpoint to that")
    if status == 401:
        raise _Stop("its URL is not signed: HMAC_SECRET needs a proxy that signs; remove it without one")
    if not response.ok:
        raise _Stop(f"is refused ({read_message(response)}): the service's log has more")
    if _origin(script.host) != _origin(page) and response.headers.get("access-control-allow-origin") != "*":
        raise _Stop("its response is hidden from the page: let no proxy add or remove Access-Control-Allow-Origin")


def _follow(base: str, token: str, pathname: str) -> None:
    """Query the statistics until they count the hit; another limit makes a query that no cache has answered."""
    for attempt in range(1, PATIENCE + 1):
        query = urlencode({"site_uuid": TEST_SITE, "pathname": pathname, "limit": attempt})
        headers = {"User-Agent": BROWSER, "Authorization": f"Bearer {token}"}
        response = _request("GET", f"{base}/v0/pipes/{PIPE}.json?{query}", "is the address right?", headers)
        advice = explain_statistics(response.status_code, read_message(response))
        if advice is not None:
            raise _Stop(advice)
        if pathname in response.text:
            return
        time.sleep(1.0)
    raise _Stop(
        f"do not count the hit after {PATIENCE} s: `traffic-analytics spool status` shows events that wait;"
        " STATS_TARGET must be the host in PROXY_TARGET"
    )


def _request(
    method: str, url: str, question: str, headers: dict[str, str] | None = None, body: object = None
) -> requests.Response:
    """Send a request; only the page and the script may be elsewhere than their address says."""
    try:
        return requests.request(
            method, url, headers=headers, json=body, timeout=TIMEOUT, allow_redirects=method == "GET"
        )
    except (requests.RequestException, OSError) as error:
        raise _Stop(f"cannot be reached ({_cause(error)}): {question}") from None


def _cause(error: Exception) -> str:
    retried = error.args[0] if error.args else None
    reason = retried.reason if isinstance(retried, MaxRetryError) else None
    return CAUSES.get(type(reason), failure_reason(error))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
