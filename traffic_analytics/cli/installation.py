"""Try what the service needs on its machine and behind it: disk, stores, target, statistics, clock."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import requests

from traffic_analytics import __version__
from traffic_analytics.cli.marked_hit import marked_event, sign_for_test_site
from traffic_analytics.cli.steps import Step
from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SaltUnavailable, SpoolUnavailable
from traffic_analytics.hits.page_hit import TEST_SITE
from traffic_analytics.tinybird.events import Tinybird, events_url
from traffic_analytics.tinybird.pipes import Pipes
from traffic_analytics.tinybird.transport import failure_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.delivery.target import Target
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.settings import Settings

TEST_DATA_SOURCE = "analytics_events_test"
TIMEOUT = 10.0
"""Time limit of a request to the service, the target or the blog, in seconds."""
CLOCK_TOLERANCE = 30.0
"""Largest difference between two clocks, in seconds; a larger one moves hits to another minute, or day."""
SPARE_MB = 64
"""Free space beside a full spool, in MiB: salts, logs and the log of SQLite."""
STORE_GREETING = "Hello from the analytics store"
PIPE = "api_active_visitors"


@dataclass(frozen=True, slots=True)
class Installation:
    """The parts to try; `more` are further checks by name, each returning advice or None."""

    settings: Settings
    salts: Salts
    spool: Spool | None
    target: Target
    more: Mapping[str, Callable[[], str | None]]


def check_installation(installation: Installation) -> Iterator[Step]:
    """Try each part, whether the service runs or not."""
    settings, spool = installation.settings, installation.spool
    yield Step("settings")  # the app starts with valid settings only
    yield Step(f"data directory {settings.data_dir}", _try_directory(settings.data_dir))
    yield Step("free disk", _try_disk(settings, spool))
    yield Step(f"salt store ({settings.salt_store_type})", _try(installation.salts.check))
    if spool is not None:
        yield Step("spool", _try(spool.check))
    for name, check in installation.more.items():
        yield Step(name, check())
    if isinstance(installation.target, Tinybird):
        yield _try_tinybird(settings, installation.target)
        yield from _try_host(settings)
    else:
        reply = installation.target.post(TEST_DATA_SOURCE, [marked_event(TEST_DATA_SOURCE)])
        yield Step(f"{installation.target.NAME} topic", _explain_topic(reply))
    yield from _try_statistics(settings)


def check_service(settings: Settings) -> Iterator[Step]:
    """Try the running service on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen_host, settings.listen_host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    try:
        response = requests.get(f"{url}/ready", timeout=TIMEOUT)
    except (requests.RequestException, OSError) as error:
        advice = f"does not answer ({failure_reason(error)}): start it, and read its log if it ends again"
    else:
        advice = "" if response.ok else f"is not ready: {read_message(response)}"
    yield Step(f"service at {url}", advice or None)


def read_message(response: requests.Response) -> str:
    """Return the message of an error, or its status if it has none."""
    try:
        content = response.json()
        return str(content.get("message") or content["error"])[:300]
    except (ValueError, AttributeError, LookupError):
        return f"status {response.status_code}"


def explain_clock(host: str | None, response: requests.Response) -> Step:
    """Compare the clock of this machine with the one that dated a response."""
    advice = None
    try:
        date = parsedate_to_datetime(response.headers["Date"])
    except (LookupError, ValueError):
        return Step(f"clock (no time from {host})")
    now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - a command line is an edge
    ahead = (now - date).total_seconds()
    if abs(ahead) > CLOCK_TOLERANCE:
        direction = "ahead of" if ahead > 0 else "behind"
        advice = f"is {abs(ahead):.0f} s {direction} it: synchronise it, for example with `timedatectl set-ntp true`"
    return Step(f"clock (against {host})", advice)


def explain_statistics(status: int, reason: str) -> str | None:
    """Explain the response to a query with a token as Ghost signs it."""
    if status in (401, 403):
        return (
            "refuses a token signed with TINYBIRD_ADMIN_TOKEN: it must be the workspace's admin token, or the store's"
            " STORE_ADMIN_TOKEN, and Ghost's tinybird__adminToken must be the same"
        )
    if status == 404:
        return "has no statistics: is STATS_TARGET the right host, and does the workspace have Ghost's pipes?"
    if status == HTTPStatus.LOOP_DETECTED:
        return "is this service itself: set STATS_TARGET to Tinybird or to the store"
    return None if status == 200 else f"cannot be queried ({reason}): is it running, and is STATS_TARGET right?"


def _try(check: Callable[[], None]) -> str | None:
    try:
        check()
    except (SaltUnavailable, SpoolUnavailable) as error:
        return str(error)
    return None


def _try_directory(directory: Path) -> str | None:
    try:
        probe = directory / f".check-{uuid4().hex}"
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return None


def _try_disk(settings: Settings, spool: Spool | None) -> str | None:
    """Check that the spool can grow to its limit, so that the limit and not the disk stops it."""
    try:
        free = shutil.disk_usage(settings.data_dir).free / 2**20
        used = spool.backlog().bytes_used / 2**20 if spool is not None else 0.0
    except (OSError, SpoolUnavailable):
        return None  # the steps of the directory and of the spool name the reason
    needed = SPARE_MB + max(0.0, settings.spool_max_mb - used) if spool is not None else SPARE_MB
    if free >= needed:
        return None
    lower = ", or lower SPOOL_MAX_MB" if spool is not None else ""
    return f"{free:.0f} MiB are free and {needed:.0f} may be needed: free some on {settings.data_dir}{lower}"


def _try_tinybird(settings: Settings, target: Tinybird) -> Step:
    where = f"Tinybird at {events_url(settings.proxy_target)}"
    if settings.request_tokens:
        return Step(f"{where} (not tried: each request brings its token)")
    return Step(where, _explain(target.post(TEST_DATA_SOURCE, [marked_event(TEST_DATA_SOURCE)], wait=True)))


def _try_host(settings: Settings) -> Iterator[Step]:
    """Try the health and version of an embedded store, and compare clocks with any target."""
    url = urlsplit(settings.proxy_target)
    origin = f"{url.scheme}://{url.netloc}"
    try:
        greeting = requests.get(f"{origin}/", timeout=TIMEOUT)
        if greeting.text.startswith(STORE_GREETING):
            yield Step(f"store at {origin}", _explain_store(requests.get(f"{origin}/health", timeout=TIMEOUT)))
    except (requests.RequestException, OSError):
        return  # the step of the target names the reason
    yield explain_clock(url.hostname, greeting)


def _explain_store(health: requests.Response) -> str | None:
    if not health.ok:
        return f"is not healthy: {read_message(health)}"
    version = health.json().get("version", "unknown")
    return None if version == __version__ else f"is version {version}, and this is {__version__}: restart both"


def _try_statistics(settings: Settings) -> Iterator[Step]:
    target = urlsplit(settings.proxy_target)
    origin = settings.stats_target or (f"{target.scheme}://{target.netloc}" if target.netloc else None)
    if origin is None or (settings.stats_target is None and settings.tinybird_admin_token is None):
        return
    token = sign_for_test_site(settings.tinybird_admin_token, PIPE) if settings.tinybird_admin_token else "none"
    pipes = Pipes(origin, connections=1, monotonic=time.monotonic)
    reply = pipes.get(f"/v0/pipes/{PIPE}.json?site_uuid={TEST_SITE}", token)
    if settings.tinybird_admin_token is None and reply.status in (401, 403):
        yield Step(f"statistics at {origin} (only reached: TINYBIRD_ADMIN_TOKEN is not set)")
    else:
        yield Step(f"statistics at {origin}", explain_statistics(reply.status, reply.reason))


def _explain_topic(reply: Reply) -> str | None:
    match reply.verdict:
        case Verdict.TAKEN:
            return None
        case Verdict.WRONG_SETUP:
            return (
                f"cannot be used ({reply.reason}): can the credentials be read, does the topic exist, and may this"
                " service publish to it?"
            )
    return f"cannot be reached ({reply.reason}): are project, credentials and network right?"


def _explain(reply: Reply) -> str | None:
    """Explain Tinybird's reply to the test event to the operator; None if all is well."""
    match reply.verdict:
        case Verdict.TAKEN if reply.quarantined:
            return "accepts events, but could not fit one into analytics_events_test: the data source is not Ghost's"
        case Verdict.TAKEN:
            return None
        case Verdict.WRONG_SETUP if reply.status in (401, 403):
            return f"refuses the token ({reply.reason}): it must be allowed to append to analytics_events_test"
        case Verdict.WRONG_SETUP:
            return f"cannot be found ({reply.reason}): is PROXY_TARGET the right region and path?"
        case Verdict.REFUSED:
            return f"refuses the event ({reply.reason}): does the data source analytics_events_test exist?"
        case Verdict.TOO_FAST:
            return "can be reached, but answers that it gets too many requests"
    return f"cannot be reached ({reply.reason}): are host, port and network right?"
