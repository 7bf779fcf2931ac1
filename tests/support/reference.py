"""Compute the statistics naively, with lists and loops over every hit; nothing is shared with the store."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

HIT_FILTERS = ("location", "pathname", "post_uuid", "os", "browser")
SESSION_FILTERS = ("source", "device", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
Hit = dict[str, Any]
Row = dict[str, Any]


class Reference:
    """The statistics of a list of hits; each hit is a dict with `at` (aware, UTC) and the columns that queries read.

    With `whole`, sessions are whole and count where they begin, as under the pipes' names with _v2; otherwise the days
    of the query cut them.
    """

    def __init__(self, hits: list[Hit], now: datetime, *, whole: bool) -> None:
        self.hits = hits
        self.now = now
        self.whole = whole

    def sessions(self, site: str) -> dict[str, list[Hit]]:
        return self.group([hit for hit in self.hits if hit["site_uuid"] == site])

    def cut_sessions(self, params: dict[str, str]) -> dict[str, list[Hit]]:
        """Return the sessions of a site without their hits outside the days that a query names."""
        dates = {"date_from": "1980-01-01", "date_to": "2299-01-01"} | params
        return self.group([h for h in self.hits if h["site_uuid"] == params["site_uuid"] and self.in_range(h, dates)])

    def group(self, of: list[Hit]) -> dict[str, list[Hit]]:
        sessions: dict[str, list[Hit]] = defaultdict(list)
        for hit in of:
            sessions[hit["session_id"]].append(hit)
        return {name: sorted(hits, key=lambda hit: hit["at"]) for name, hits in sessions.items()}

    def in_range(self, hit: Hit, params: dict[str, str]) -> bool:
        zone = ZoneInfo(params.get("timezone", "Etc/UTC"))
        first, last = self.days(params)
        day: date = hit["at"].astimezone(zone).date()
        return first <= day <= last

    def days(self, params: dict[str, str]) -> tuple[date, date]:
        today = self.now.astimezone(ZoneInfo(params.get("timezone", "Etc/UTC"))).date()
        first = date.fromisoformat(params["date_from"]) if "date_from" in params else today - timedelta(days=7)
        return first, date.fromisoformat(params["date_to"]) if "date_to" in params else today

    def meets(self, hit: Hit, params: dict[str, str]) -> bool:
        if any(name in params and hit[name] != params[name] for name in HIT_FILTERS):
            return False
        if "gift_link" in params and (params["gift_link"] in ("false", "0")) == (hit["gift_link"] != ""):
            return False
        if "member_status" in params:
            statuses = params["member_status"].split(",")
            if hit["member_status"] not in statuses and not (
                "paid" in statuses and hit["member_status"] in ("comped", "gift")
            ):
                return False
        return self.in_range(hit, params)

    def qualified(self, params: dict[str, str]) -> dict[str, list[Hit]]:
        qualified = {}
        sessions = self.sessions(params["site_uuid"]) if self.whole else self.cut_sessions(params)
        for name, hits in sessions.items():
            if not any(self.meets(hit, params) for hit in hits):
                continue
            given = [name for name in SESSION_FILTERS if name in params]
            if (given or self.whole) and not self.in_range(hits[0], params):
                continue
            if all(hits[0][name] == params[name] for name in given):
                qualified[name] = hits
        return qualified

    def api_kpis(self, params: dict[str, str]) -> list[Row]:
        zone = ZoneInfo(params.get("timezone", "Etc/UTC"))
        first, last = self.days(params)
        by_hit = any(name in params for name in ("pathname", "post_uuid", "gift_link"))
        slots: list[Any]
        # Of one date alone, even today's, the chart has a day.
        by_hour = first == last and params.get("date_from") == params.get("date_to")
        if by_hour:
            slots = list(self._hours(first, zone))
        else:
            slots = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]

        def slot(hit: Hit) -> Any:
            local = hit["at"].astimezone(zone)
            return (local.date(), local.hour, local.fold) if by_hour else local.date().isoformat()

        rows = []
        for current in slots:
            visits = [hits for hits in self.qualified(params).values() if slot(hits[0]) == current]
            if by_hit:
                pageviews = sum(
                    self.meets(hit, params) and slot(hit) == current
                    for hits in self.qualified(params).values()
                    for hit in hits
                )
            else:
                pageviews = sum(len(hits) for hits in visits)
            seconds = sum(int(hits[-1]["at"].timestamp()) - int(hits[0]["at"].timestamp()) for hits in visits)
            rows.append(
                {
                    "date": current if isinstance(current, str) else f"{current[0]} {current[1]:02d}:00:00",
                    "visits": len(visits),
                    "pageviews": pageviews,
                    "bounce_rate": cut(Fraction(sum(len(hits) == 1 for hits in visits), len(visits) or 1)),
                    "avg_session_sec": cut(Fraction(seconds, len(visits) or 1)),
                }
            )
        return rows

    def _hours(self, day: date, zone: ZoneInfo) -> list[tuple[date, int, int]]:
        """List the hours of a day, found minute by minute."""
        hours: list[tuple[date, int, int]] = []
        at = datetime.combine(day, time(), UTC) - timedelta(hours=26)
        for _ in range(76 * 60):
            local = at.astimezone(zone)
            has_begun = at <= self.now or day != self.now.astimezone(zone).date()
            if local.date() == day and has_begun and (day, local.hour, local.fold) not in hours:
                hours.append((day, local.hour, local.fold))
            at += timedelta(minutes=1)
        return hours

    def top_of_sessions(self, params: dict[str, str], column: str) -> list[Row]:
        counts = Counter(hits[0][column] for hits in self.qualified(params).values())
        if column.startswith("utm_"):
            counts.pop("", None)
        return [{column: value, "visits": visits} for value, visits in counts.items()]

    def top_of_hits(self, params: dict[str, str], *columns: str) -> list[Row]:
        seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for name, hits in self.qualified(params).items():
            for hit in hits:
                if self.meets(hit, params) and (
                    "pathname" not in columns
                    or "post_type" not in params
                    or (params["post_type"] == "post") == (hit["post_type"] == "post")
                ):
                    seen[tuple("" if hit[c] == "undefined" else hit[c] for c in columns)].add(name)
        return [dict(zip(columns, key, strict=True), visits=len(names)) for key, names in seen.items()]

    def api_active_visitors(self, params: dict[str, str]) -> list[Row]:
        filters = {name: value for name, value in params.items() if name in ("post_uuid", "gift_link")}
        filters |= {"date_from": "1980-01-01", "date_to": "2299-01-01"}
        since = self.now - timedelta(minutes=5)
        active = [
            any(hit["at"] >= since and self.meets(hit, filters) for hit in hits)
            for hits in self.sessions(params["site_uuid"]).values()
        ]
        return [{"active_visitors": sum(active)}]

    def api_sites(self, params: dict[str, str]) -> list[Row]:
        zone = ZoneInfo(params.get("timezone", "Etc/UTC"))
        today, week = self.now.astimezone(zone).date(), timedelta(days=7)
        days = [today - timedelta(days=n) for n in reversed(range(14))]
        rows = []
        for site in {hit["site_uuid"] for hit in self.hits} & {params["site_uuid"]}:
            visits = list(self.sessions(site).values())
            first = [hits[0]["at"] for hits in visits]
            last_hit = max(hits[-1]["at"] for hits in visits)
            # Of a visit that ended before the 14 days nothing is counted; hits of the future count as the last day's.
            begun = Counter(min(at.astimezone(zone).date(), today) for at in first)
            rows.append(
                {
                    "site_uuid": site,
                    "host": f"{site}.example",
                    "active_visitors": sum(hits[-1]["at"] >= self.now - timedelta(minutes=5) for hits in visits),
                    "visits_today": sum(at.astimezone(zone).date() >= today for at in first),
                    "visits_week": sum(at >= self.now - week for at in first),
                    "visits_week_before": sum(self.now - 2 * week <= at < self.now - week for at in first),
                    "daily_visits": [begun[day] for day in days],
                    "last_hit": last_hit.strftime("%Y-%m-%dT%H:%M:%S.") + f"{last_hit.microsecond // 1000:03d}Z",
                }
            )
        return rows

    def api_post_visitor_counts(self, params: dict[str, str]) -> list[Row]:
        rows = []
        for post in sorted(set(params["post_uuids"].split(","))):
            visits = sum(
                any(hit["post_uuid"] == post for hit in hits) for hits in self.sessions(params["site_uuid"]).values()
            )
            if visits:
                rows.append({"post_uuid": post, "visits": visits})
        return rows

    def api_gift_link_visits(self, params: dict[str, str]) -> list[Row]:
        dates = {"date_from": "1980-01-01", "date_to": "2299-01-01"} | params
        used = [
            hit
            for hit in self.hits
            if hit["site_uuid"] == params["site_uuid"]
            and hit["gift_link"]
            and self.in_range(hit, dates)
            and params.get("post_uuid", hit["post_uuid"]) == hit["post_uuid"]
            and params.get("gift_link", hit["gift_link"]) == hit["gift_link"]
        ]
        return [
            {
                "gift_link": link,
                "visits": len({hit["session_id"] for hit in used if hit["gift_link"] == link}),
                "views": sum(hit["gift_link"] == link for hit in used),
                "last_seen": max(hit["at"] for hit in used if hit["gift_link"] == link).strftime("%Y-%m-%d %H:%M:%S"),
            }
            for link in {hit["gift_link"] for hit in used}
        ]

    def rows(self, pipe: str, params: dict[str, str]) -> list[Row]:
        of_sessions = {"api_top_sources": "source", "api_top_devices": "device"}
        of_sessions |= {f"api_top_utm_{n}s": f"utm_{n}" for n in ("source", "medium", "campaign", "term", "content")}
        of_hits = {
            "api_top_pages": ("post_uuid", "pathname"),
            "api_top_locations": ("location",),
            "api_top_browsers": ("browser",),
            "api_top_os": ("os",),
        }
        if pipe in of_sessions:
            return self.top_of_sessions(params, of_sessions[pipe])
        if pipe in of_hits:
            return self.top_of_hits(params, *of_hits[pipe])
        rows: list[Row] = getattr(self, pipe)(params)
        return rows


def cut(rate: Fraction) -> float:
    return int(rate * 100) / 100
