"""How `make run` starts the service: as in production, but it forwards to itself and shows each event in the terminal.

Only what neither the environment nor `.env` says is filled in, so `PORT=8080 make run` and a `.env` with a real
PROXY_TARGET do what they say.
"""

import json
import os
import runpy
import shlex
from datetime import UTC, datetime
from urllib.parse import quote

from traffic_analytics.settings import Settings, read_environment
from traffic_analytics.signed_url import sign

_given = {name: value for name, value in read_environment().items() if value.strip()}
_port = _given.get("PORT", "").strip()
_target = f"http://127.0.0.1:{_port if _port.isdigit() else 3000}/local-proxy"
_defaults = {
    "LOCAL_PROXY": "true",
    "PROXY_TARGET": _target,
    "LOG_FORMAT": "pretty",
    "DATA_DIR": "data/development",
    "LISTEN_HOST": "127.0.0.1",
    "WEB_CONCURRENCY": "2",  # more than one, as in production, and few lines in the terminal
}
os.environ.update({name: value for name, value in _defaults.items() if name not in _given})  # noqa: TID251 - the edge

# gunicorn asks for every worker's settings here, and app.py reads the same environment.
globals().update(
    {name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if not name.startswith("__")}
)


def when_ready(server):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Say what to try, now that the port answers."""
    settings = Settings.from_env(read_environment())
    if settings.proxy_target == _target and settings.local_proxy:
        outcome = "and its enriched event appears here a moment later"
    else:
        outcome = f"and its event goes to {settings.proxy_target}"
    print(  # noqa: T201 - the terminal is whom this is for
        f"\nTraffic Analytics listens on port {settings.port}. Paste this into another terminal, {outcome}:\n\n"
        f"{_curl(settings, datetime.now(UTC))}\n\nCtrl-C stops it.\n",  # noqa: TID251 - the edge
        flush=True,
    )


def _curl(settings: Settings, now: datetime) -> str:
    """Write the command that sends a hit as a reader's browser would; signed, if signatures are asked for."""
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    site = "c431ed34-e1de-4c2a-a9be-bc96c06dff2e"
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
            "site_uuid": site,
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
        ["curl", "-i", f"http://127.0.0.1:{settings.port}{path}"],
        ["-A", browser],
        ["-H", "Content-Type: application/json"],
        ["-H", f"x-site-uuid: {site}"],
        ["-d", json.dumps(body)],
    ]
    return " \\\n  ".join(shlex.join(option) for option in options)
