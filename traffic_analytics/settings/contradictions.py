"""Find settings that contradict each other, or that lack another."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from traffic_analytics.runtime.env_values import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from traffic_analytics.settings.variables import Variables


def contradictions(settings: Variables, given: Set[str]) -> Iterator[str]:
    """Yield contradictions. A variable that is given but invalid is not reported as missing."""
    on_google = (
        "DELIVERY=pubsub" if settings.publishes else "",
        "WORKER_MODE=true" if settings.worker_mode else "",
        "SALT_STORE_TYPE=firestore" if settings.salt_store_type == "firestore" else "",
    )
    if not (settings.publishes and settings.tinybird_sync_auth is None) and "PROXY_TARGET" not in given:
        yield "PROXY_TARGET: must be set, for example to https://api.tinybird.co/v0/events"
    if "TINYBIRD_TRACKER_TOKEN" not in given:
        yield from _need_tracker_token(settings)
    elif settings.request_tokens:
        yield "REQUEST_TOKENS: has no effect with TINYBIRD_TRACKER_TOKEN"
    if settings.publishes and "PUBSUB_TOPIC_PAGE_HITS_RAW" not in given:
        yield "PUBSUB_TOPIC_PAGE_HITS_RAW: must be set with DELIVERY=pubsub"
    if settings.worker_mode and "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW" not in given:
        yield "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW: must be set with WORKER_MODE=true"
    if settings.salt_store_type == "redis" and "REDIS_URL" not in given:
        yield "REDIS_URL: must be set with SALT_STORE_TYPE=redis"
    if any(on_google) and "GOOGLE_CLOUD_PROJECT" not in given:
        yield f"GOOGLE_CLOUD_PROJECT: must be set with {next(filter(None, on_google))}"
    if settings.salt_store_type == "memory" and settings.web_concurrency > 1:
        yield "WEB_CONCURRENCY: must be 1 with SALT_STORE_TYPE=memory, or each process has salts of its own"
    if settings.metrics_token is not None and not settings.metrics:
        yield "METRICS_TOKEN: has no effect without METRICS=true"
    if settings.dashboard:
        for name in ("STATS_TARGET", "TINYBIRD_ADMIN_TOKEN"):
            if name not in given:
                yield f"DASHBOARD: needs {name}"
        if "DASHBOARD_KEY" not in given and not is_loopback(settings.listen_host):
            yield "DASHBOARD_KEY: must be set, or LISTEN_HOST must be a loopback address such as 127.0.0.1"


def _need_tracker_token(settings: Variables) -> Iterator[str]:
    """Yield what cannot work without a tracker token."""
    target, statistics = urlsplit(settings.proxy_target), urlsplit(settings.stats_target or "")
    # A target that checks Ghost's tokens also checks those of events.
    checks_tokens = settings.tinybird_admin_token is not None and target.netloc == statistics.netloc
    if settings.delivery == "spool":
        yield "DELIVERY: spool needs TINYBIRD_TRACKER_TOKEN, since the tokens of requests are not stored"
    if settings.worker_mode:
        yield "WORKER_MODE: needs TINYBIRD_TRACKER_TOKEN, since messages hold no token"
    if settings.tinybird_sync_auth is not None:
        yield "TINYBIRD_SYNC_AUTH: needs TINYBIRD_TRACKER_TOKEN, to send the rows to Tinybird"
    elif settings.request_tokens or settings.delivery != "direct" or settings.worker_mode or not target.hostname:
        return
    elif checks_tokens or not is_loopback(target.hostname):
        yield (
            "TINYBIRD_TRACKER_TOKEN: must be set, or every hit is answered 502; REQUEST_TOKENS=true instead if "
            "each request brings its own, as Ghost's script does in development only"
        )
