"""Read the parameters of a query as the values that a pipe's SQL binds; unknown parameters are ignored."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from analytics_store.columns import ENTRY, HIT_FILTERS
from analytics_store.days import EARLIEST, LATEST, MOST_DAYS, day_slots, hour_slots, midnight, today, zone
from analytics_store.errors import ParameterError
from analytics_store.timestamps import parse_timestamp

# Statuses that the value `paid` of member_status includes.
PAID = ("paid", "comped", "gift")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
DEFAULT_ZONE = "Etc/UTC"
MOST_ROWS = 10_000

Values = dict[str, Any]
Reader = Callable[[Mapping[str, str], datetime], Values]


def web(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters that the web endpoints share."""
    return site(args, now) | _range(args, now) | _hit_filters(args) | _session_filters(args)


def kpis(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters of a chart, whose slots are days, or the hours of a single day."""
    if args.get("current_time"):
        now = _timestamp(args["current_time"], "current_time")
    values = web(args, now)
    tz = zone(args.get("timezone", DEFAULT_ZONE))
    first, last = _days(args, now)
    slots = hour_slots(first, tz) if first == last else day_slots(first, last, tz)
    if first == last == today(now, tz):
        slots = [slot for slot in slots if slot.start <= now]
    return values | {
        "starts": [slot.start for slot in slots],
        "stops": [slot.stop for slot in slots],
        "labels": [slot.label for slot in slots],
        "by_hit": any(name in args for name in ("pathname", "post_uuid", "gift_link")),
    }


def top(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters of a list."""
    return web(args, now) | {
        "skip": _count(args, "skip", 0, 1_000_000_000),
        "limit": _count(args, "limit", 50, MOST_ROWS),
    }


def top_pages(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters of the list of pages."""
    post_type = args.get("post_type")
    return top(args, now) | {"is_post": None if post_type is None else post_type == "post"}


def active_visitors(args: Mapping[str, str], now: datetime) -> Values:
    """Read the filters of the visitors of the last five minutes."""
    return site(args, now) | {
        "since": now - timedelta(minutes=5),
        "post_uuid": args.get("post_uuid"),
        "has_gift_link": _has_gift_link(args),
    }


def post_visitor_counts(args: Mapping[str, str], now: datetime) -> Values:
    """Read the posts of the query."""
    if "post_uuids" not in args:
        raise ParameterError("post_uuids", "is required")
    return site(args, now) | {"post_uuids": [part.strip() for part in args["post_uuids"].split(",")]}


def gift_link_visits(args: Mapping[str, str], now: datetime) -> Values:
    """Read the gift links and the range of days, which is all time by default."""
    tz = zone(args.get("timezone", DEFAULT_ZONE))
    first = _date(args, "date_from", EARLIEST)
    last = _date(args, "date_to", LATEST)
    return site(args, now) | {
        "since": midnight(first, tz),
        "until": midnight(last + timedelta(days=1), tz),
        "post_uuid": args.get("post_uuid"),
        "gift_link": args.get("gift_link"),
    }


def monitoring(args: Mapping[str, str], now: datetime) -> Values:
    """Read the range of days (UTC) and the site, which is all sites by default."""
    tz = zone(DEFAULT_ZONE)
    first = _date(args, "start_date", today(now, tz) - timedelta(days=7))
    last = _date(args, "end_date", today(now, tz))
    return {
        "site_uuid": args.get("site_uuid"),
        "since": midnight(first, tz),
        "until": midnight(last + timedelta(days=1), tz),
    }


def site(args: Mapping[str, str], _now: datetime) -> Values:
    """Read the site, which is required."""
    if not args.get("site_uuid"):
        raise ParameterError("site_uuid", "is required")
    return {"site_uuid": args["site_uuid"]}


def _days(args: Mapping[str, str], now: datetime) -> tuple[date, date]:
    tz = zone(args.get("timezone", DEFAULT_ZONE))
    first = _date(args, "date_from", today(now, tz) - timedelta(days=7))
    last = _date(args, "date_to", today(now, tz))
    if (last - first).days >= MOST_DAYS:
        raise ParameterError("date_from", f"must lie less than {MOST_DAYS} days before date_to")
    return first, last


def _range(args: Mapping[str, str], now: datetime) -> Values:
    first, last = _days(args, now)
    tz = zone(args.get("timezone", DEFAULT_ZONE))
    return {"since": midnight(first, tz), "until": midnight(last + timedelta(days=1), tz)}


def _hit_filters(args: Mapping[str, str]) -> Values:
    # An empty value filters for the empty value; only a missing one does not filter.
    values: Values = {name: args.get(name) for name in HIT_FILTERS}
    values["member_statuses"] = _member_statuses(args)
    values["has_gift_link"] = _has_gift_link(args)
    values["any_hit_filter"] = any(value is not None for value in values.values())
    return values


def _session_filters(args: Mapping[str, str]) -> Values:
    values: Values = {name: args.get(name) for name in ENTRY}
    values["any_session_filter"] = any(value is not None for value in values.values())
    return values


def _member_statuses(args: Mapping[str, str]) -> list[str] | None:
    if "member_status" not in args:
        return None
    statuses = dict.fromkeys(part.strip() for part in args["member_status"].split(","))
    if "paid" in statuses:
        statuses |= dict.fromkeys(PAID)
    return list(statuses)


def _has_gift_link(args: Mapping[str, str]) -> bool | None:
    return args["gift_link"] not in {"false", "0"} if "gift_link" in args else None


def _date(args: Mapping[str, str], name: str, default: date) -> date:
    if name not in args:
        return default
    try:
        # fromisoformat alone would also accept weeks, and dates without hyphens.
        day = date.fromisoformat(args[name] if DAY.fullmatch(args[name]) else "")
    except ValueError:
        raise ParameterError(name, "must be a date as YYYY-MM-DD") from None
    if not EARLIEST <= day <= LATEST:
        raise ParameterError(name, f"must lie between {EARLIEST} and {LATEST}")
    return day


def _timestamp(text: str, name: str) -> datetime:
    try:
        return parse_timestamp(text)
    except (ValueError, OverflowError):
        raise ParameterError(name, "must be a date and time as YYYY-MM-DD HH:MM:SS") from None


def _count(args: Mapping[str, str], name: str, default: int, most: int) -> int:
    if name not in args:
        return default
    text = args[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise ParameterError(name, "must be a whole number")
    return min(int(text), most)
