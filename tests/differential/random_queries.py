"""Draw queries of Ghost's pipes, with any of their parameters."""

import random
from collections.abc import Callable
from datetime import timedelta

from tests.differential.random_events import BUSY_DAYS, NOW, POSTS, SITE_WEIGHTS, SITES, VALUES

ZONES = (
    "Etc/UTC", "UTC", "Europe/Berlin", "Europe/London", "Europe/Moscow", "America/New_York", "America/Los_Angeles",
    "America/Sao_Paulo", "America/St_Johns", "America/Santiago", "America/Caracas", "America/Havana", "Asia/Kolkata",
    "Asia/Kathmandu", "Asia/Tokyo", "Asia/Tehran", "Asia/Gaza", "Asia/Pyongyang", "Africa/Cairo", "Africa/Casablanca",
    "Antarctica/Troll", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham",
    "Pacific/Kiritimati", "Pacific/Pago_Pago",
)  # fmt: skip
LISTS = (
    "pages",
    "sources",
    "devices",
    "locations",
    *(f"utm_{n}s" for n in ("source", "medium", "campaign", "term", "content")),
)
WEB = ("api_kpis", *(f"api_top_{name}" for name in LISTS))
OTHERS = ("api_active_visitors", "api_post_visitor_counts", "api_gift_link_visits", "api_monitoring_ingestion",
          "api_monitoring_ingestion_aggregated")  # fmt: skip
WITHOUT_VERSION = {"api_gift_link_visits", "api_monitoring_ingestion", "api_monitoring_ingestion_aggregated"}
"""Pipes that Ghost has under one name only."""
GIFT_LINKS = ("1", "true", "false", "0", "", "gift-1")
POST_UUIDS = (*POSTS.values(), "", "undefined")


def _of(name: str) -> Callable[[random.Random], str]:
    values = [value for value in VALUES[name] if value is not None]
    return lambda rng: rng.choice(values)


FILTERS: dict[str, Callable[[random.Random], str]] = {
    **{name: _of(name) for name in ("location", "pathname", "device", "utm_source", "utm_medium", "utm_campaign")},
    **{name: _of(name) for name in ("utm_term", "utm_content")},
    "source": lambda rng: rng.choice(("", "Google", "Facebook", "Twitter", "newsletter-x", "example.org", "Ünï")),
    "post_uuid": lambda rng: rng.choice(POST_UUIDS),
    "gift_link": lambda rng: rng.choice(GIFT_LINKS),
    "member_status": lambda rng: rng.choice(
        ("undefined,free,paid", "free", "paid", "undefined", "", "free, paid", "gift")
    ),
}


def draw_query(rng: random.Random) -> tuple[str, dict[str, str]]:
    """Return a pipe's name, with or without a version, and parameters."""
    weights = [*(6 if pipe == "api_kpis" else 1 for pipe in WEB), *(1 for _ in OTHERS)]
    pipe = rng.choices((*WEB, *OTHERS), weights)[0]
    params = {"site_uuid": rng.choices((*SITES, "nobody"), (*SITE_WEIGHTS, 0.2))[0]}
    if pipe in WEB or pipe == "api_gift_link_visits":
        params |= _draw_days(rng)
    if pipe in WEB:
        for name in rng.sample(sorted(FILTERS), rng.choices((0, 1, 2, 3), (5, 5, 3, 1))[0]):
            params[name] = FILTERS[name](rng)
    if pipe == "api_top_pages" and rng.random() < 0.4:
        params["post_type"] = rng.choice(("post", "page", "", "null"))
    if pipe.startswith("api_top") and rng.random() < 0.4:
        params |= {"skip": rng.choice("0125"), "limit": rng.choice("0125")}
    if pipe == "api_kpis" and "date_from" in params and rng.random() < 0.2:
        params["current_time"] = f"{params['date_from']} {rng.randrange(24):02d}:{rng.randrange(60):02d}:00"
    if pipe in {"api_active_visitors", "api_gift_link_visits"} and rng.random() < 0.5:
        name = rng.choice(("post_uuid", "gift_link"))
        params[name] = FILTERS[name](rng)
    if pipe == "api_post_visitor_counts":
        params["post_uuids"] = ",".join(rng.sample((*POST_UUIDS, "x"), rng.randrange(1, 5)))
    if "monitoring" in pipe:
        params |= _draw_monitored_days(rng)
        if rng.random() < 0.3:
            del params["site_uuid"]
    version = "_v2" if pipe not in WITHOUT_VERSION and rng.random() < 0.4 else ""
    return pipe + version, params


def _draw_days(rng: random.Random) -> dict[str, str]:
    first = NOW.date() - timedelta(days=rng.randrange(12))
    if rng.random() < 0.6:
        first = rng.choice(BUSY_DAYS) + timedelta(days=rng.randrange(-3, 3))
    last = first + timedelta(days=rng.choice((0, 0, 0, 0, 1, 2, 3, 6, 29, 90, 364)))
    days = {"date_from": first.isoformat(), "date_to": last.isoformat()}
    given = rng.choices((("date_from", "date_to"), ("date_from",), ("date_to",), ()), (16, 1, 1, 1))[0]
    if len(given) < len(days):
        days["date_from"] = (NOW.date() - timedelta(days=rng.randrange(20))).isoformat()
        days["date_to"] = (NOW.date() - timedelta(days=rng.randrange(-2, 6))).isoformat()
    if rng.random() < 0.03:
        days["date_from"], days["date_to"] = days["date_to"], days["date_from"]
    params = {name: days[name] for name in given}
    if rng.random() < 0.9:
        params["timezone"] = rng.choice(ZONES)
    return params


def _draw_monitored_days(rng: random.Random) -> dict[str, str]:
    params = {}
    if rng.random() < 0.7:
        last = rng.choice((*BUSY_DAYS, *[NOW.date()] * len(BUSY_DAYS)))
        params["start_date"] = (last - timedelta(days=rng.randrange(9))).isoformat()
    if rng.random() < 0.6:
        params["end_date"] = (NOW.date() - timedelta(days=rng.randrange(-2, 5))).isoformat()
    return params
