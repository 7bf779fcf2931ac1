"""Group hits by session: all hits of one session_id of a site, of which the first gives source, device and utm_*."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from analytics_store.columns import FACTS, OTHER_STATUS, STATUSES
from analytics_store.events import Hit


class Visit(msgspec.Struct, gc=False):
    """The part of one session that a batch of hits adds; a fact that differs between its hits is None."""

    entry: Hit
    last_ts: datetime
    statuses: int
    location: str | None
    os: str | None
    browser: str | None
    pageviews: int = 1


def group(hits: Iterable[Hit]) -> dict[str, Visit]:
    """Group hits, which are in the order of time, by the key of their session."""
    visits: dict[str, Visit] = {}
    for hit in hits:
        visit = visits.get(hit.session_key)
        status = STATUSES.get(hit.texts["member_status"], OTHER_STATUS)
        if visit is None:
            texts = hit.texts
            visits[hit.session_key] = Visit(
                hit, hit.ts, status, location=texts["location"], os=texts["os"], browser=texts["browser"]
            )
        else:
            visit.last_ts = hit.ts
            visit.pageviews += 1
            visit.statuses |= status
            for fact in FACTS:
                if getattr(visit, fact) != hit.texts[fact]:
                    setattr(visit, fact, None)
    return visits
