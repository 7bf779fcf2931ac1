"""Read the parameters of a query as the values that a pipe's SQL binds; unknown parameters are ignored."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from analytics_store.columns import ENTRY, FACTS, HIT_FILTERS, STATUSES
from analytics_store.days import EARLIEST, LATEST, ONE_DAY, common_width, day_slots, hour_slots, midnight, to_utc, today
from analytics_store.errors import ParameterError
from analytics_store.timestamps import parse_timestamp
from analytics_store.zones import zone

# Statuses that the value `paid` of member_status includes.
PAID = ("paid", "comped", "gift")
ACTIVE = timedelta(minutes=5)
"""Time since the last hit for which a visitor counts as active."""
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
MOST_ROWS = 10_000
SITE_DAYS = 14
"""Days of the small chart of each site: this week and the one before."""

Values = dict[str, Any]
NO_EDGES: Values = {"since_edge": None, "until_edge": None}
"""Edges that cut no session."""
WHOLE_SESSIONS: Values = {**NO_EDGES, "only_begun": True}
"""Values of the names with _v2: a session is whole, and counts only where it began."""
Reader = Callable[[Mapping[str, str], datetime], Values]


def web(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters that the web endpoints share; the days that the query names cut sessions."""
    tz = _zone(args)
    days = _range(_days(args, now, tz), tz)
    edges = {f"{end}_edge": days[end] for end, name in (("since", "date_from"), ("until", "date_to")) if name in args}
    return site(args, now) | days | NO_EDGES | edges | _hit_filters(args) | _session_filters(args)


def kpis(args: Mapping[str, str], now: datetime) -> Values:
    """Read the parameters of a chart, whose slots are days, or the hours of a day that is given as both ends."""
    values = web(args, now)
    tz = _zone(args)
    first, last = _days(args, now, tz)
    if args.get("current_time"):
        now = to_utc(_timestamp(args["current_time"], "current_time"), tz)
    if first == last and args.get("date_from") == args.get("date_to"):
        slots = hour_slots(first, tz)
        if first == today(now, tz):
            slots = [slot for slot in slots if slot.start <= now]
    else:
        slots = day_slots(first, last, tz)
    return values | {
        "starts": [slot.start for slot in slots],
        "stops": [slot.stop for slot in slots],
        "labels": [slot.label for slot in slots],
        "width": common_width(slots, values["until"]),
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
        "since": now - ACTIVE,
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
    days = _clip(_date(args, "date_from", EARLIEST), _date(args, "date_to", LATEST))
    return site(args, now) | _range(days, _zone(args)) | {name: args.get(name) for name in ("post_uuid", "gift_link")}


def sites(args: Mapping[str, str], now: datetime) -> Values:
    """Read the time zone whose days are counted, and the site, which is all sites by default."""
    tz = _zone(args)
    day = today(now, tz)
    starts = [midnight(day - n * ONE_DAY, tz) for n in reversed(range(SITE_DAYS))]
    return {
        "site_uuid": args.get("site_uuid"),
        "active_since": now - ACTIVE,
        "today": starts[-1],
        "week": now - 7 * ONE_DAY,
        "since": now - SITE_DAYS * ONE_DAY,
        "starts": starts,
        "skip": _count(args, "skip", 0, 1_000_000_000),
        "limit": _count(args, "limit", MOST_ROWS, MOST_ROWS),
    }


def monitoring(args: Mapping[str, str], now: datetime) -> Values:
    """Read the range of days (UTC) and the site, which is all sites by default."""
    day = today(now, UTC)
    days = _clip(_date(args, "start_date", day - 7 * ONE_DAY), _date(args, "end_date", day))
    return {"site_uuid": args.get("site_uuid")} | _range(days, UTC)


def site(args: Mapping[str, str], _now: datetime) -> Values:
    """Read the site, which is required."""
    if not args.get("site_uuid"):
        raise ParameterError("site_uuid", "is required")
    return {"site_uuid": args["site_uuid"]}


def _zone(args: Mapping[str, str]) -> tzinfo:
    return zone(args.get("timezone", ""))


def _days(args: Mapping[str, str], now: datetime, tz: tzinfo) -> tuple[date, date]:
    return _clip(_date(args, "date_from", today(now, tz) - 7 * ONE_DAY), _date(args, "date_to", today(now, tz)))


def _clip(first: date, last: date) -> tuple[date, date]:
    """Leave out the days that can hold no hit; a range of such days only ends before it begins, and is empty."""
    return min(max(first, EARLIEST), LATEST + ONE_DAY), max(min(last, LATEST), EARLIEST - ONE_DAY)


def _range(days: tuple[date, date], tz: tzinfo) -> Values:
    first, last = days
    return {"since": midnight(first, tz), "until": midnight(last + ONE_DAY, tz)}


def _hit_filters(args: Mapping[str, str]) -> Values:
    # An empty value filters for the empty value; only a missing one does not filter.
    values: Values = {name: args.get(name) for name in HIT_FILTERS}
    values["member_statuses"] = _member_statuses(args)
    values["has_gift_link"] = _has_gift_link(args)
    values["any_hit_filter"] = any(value is not None for value in values.values())
    return values | _session_facts(values)


def _session_facts(filters: Values) -> Values:
    """Return the statuses as bits, and whether a filter needs more than a session's STATUSES and FACTS."""
    statuses = filters["member_statuses"]
    is_known = statuses is None or STATUSES.keys() >= set(statuses)
    others = [value for name, value in filters.items() if name not in {"member_statuses", "any_hit_filter", *FACTS}]
    return {
        "statuses": sum(STATUSES[status] for status in statuses) if statuses is not None and is_known else None,
        "only_hits_tell": not is_known or any(value is not None for value in others),
    }


def _session_filters(args: Mapping[str, str]) -> Values:
    values: Values = {name: args.get(name) for name in ENTRY}
    values["only_begun"] = any(value is not None for value in values.values())
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
    return day


def _timestamp(text: str, name: str) -> datetime:
    try:
        return parse_timestamp(text)
    except ValueError:
        raise ParameterError(name, "must be a date and time as YYYY-MM-DD HH:MM:SS") from None


def _count(args: Mapping[str, str], name: str, default: int, most: int) -> int:
    if name not in args:
        return default
    text = args[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise ParameterError(name, "must be a whole number")
    return min(int(text), most)
