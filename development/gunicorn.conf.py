# ruff: noqa: N999 - the name is gunicorn's
"""Configure gunicorn for `make run`: as in production, and print commands to try."""

import json
import os
import runpy
import shlex
import time
import urllib.request
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from analytics_store.settings import Settings as StoreSettings
from traffic_analytics.hits.signed_url import sign
from traffic_analytics.settings import Settings

# gunicorn reads its settings from this module's globals.
globals().update(
    {name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if not name.startswith("__")}
)

_SITE = "c431ed34-e1de-4c2a-a9be-bc96c06dff2e"


def when_ready(server: Any) -> None:  # noqa: ARG001
    """Print commands to try, once service and store accept requests."""
    environment = dict(os.environ)  # noqa: TID251 - completed by development/__main__.py
    settings, store = Settings.from_env(environment), StoreSettings.from_env(environment)
    service = f"http://127.0.0.1:{settings.port}"
    lines = [f"Traffic Analytics: {service}"]
    if settings.dashboard:
        lines.insert(0, f"The dashboard, to open in a browser: {service}/dashboard/")
    lines += ["A hit, to paste into another terminal; its enriched event appears here:"]
    lines += [_curl(settings, service, datetime.now(UTC))]  # noqa: TID251 - the edge
    if store.url is not None and settings.stats_target == store.url:
        _wait_for(store.url + "/health")
        lines += [
            "The pages counted so far:",
            f"curl '{service}/v0/pipes/api_top_pages.json?site_uuid={_SITE}&token={store.stats_token}'",
            "Configuration of a Ghost in development on this machine (production: docs/operate/self-hosting.md):",
            "\n".join(_configuration(service, store)),
        ]
    elif settings.stats_target is None:
        lines += [f"Its event then goes to {settings.proxy_target}; without STATS_TARGET there are no statistics here."]
    lines += ["Ctrl-C stops everything."]
    print("\n" + "\n\n".join(lines) + "\n", flush=True)  # noqa: T201 - for the terminal


def _configuration(service: str, store: StoreSettings) -> list[str]:
    return [
        f"tinybird__tracker__endpoint={service}/api/v1/page_hit",
        f"tinybird__stats__endpoint={service}",
        f"tinybird__adminToken={store.admin_token}",
        "tinybird__workspaceId=self-hosted",
    ]


def _wait_for(url: str, seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - the store's own address
        except OSError:
            time.sleep(0.05)
        else:
            return


def _curl(settings: Settings, service: str, now: datetime) -> str:
    """Return the command that sends a hit as a browser does, signed if HMAC_SECRET is set."""
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    body = {
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        "action": "page_hit",
        "version": "1",
        "payload": {
            "user-agent": browser,
            "locale": "en-GB",
            "location": "GB",
            "parsedReferrer": {"url": "https://www.google.com/", "source": None, "medium": None},
            "pathname": "/welcome/",
            "href": "https://blog.example/welcome/",
            "site_uuid": _SITE,
            "post_uuid": "undefined",
            "post_type": "null",
            "member_uuid": "undefined",
            "member_status": "undefined",
        },
    }
    path = "/api/v1/page_hit?name=analytics_events"
    if settings.hmac_secret:
        path += f"&t={int(now.timestamp())}"
        path += f"&hmac={quote(sign(path, settings.hmac_secret.encode()))}"
    options = [
        ["curl", "-i", f"{service}{path}"],
        ["-A", browser],
        ["-H", "Content-Type: application/json"],
        ["-H", f"x-site-uuid: {_SITE}"],
        ["-d", json.dumps(body)],
    ]
    return " \\\n  ".join(shlex.join(option) for option in options)
