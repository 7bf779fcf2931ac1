"""Group hits by session: all hits of one session_id of a site, of which the first gives source, device and utm_*."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from analytics_store.columns import FACTS, OTHER_STATUS, STATUSES
from analytics_store.events import Hit, hash_key


class Visit(msgspec.Struct, gc=False):
    """The part of one session that a batch of hits adds; a fact that differs between its hits is None."""

    key: str
    entry: Hit
    last_ts: datetime
    statuses: int
    location: str | None
    os: str | None
    browser: str | None
    pageviews: int = 1
    session_no: int = 0
    """The number in the table, or 0 before it is known."""


Visits = dict[tuple[str, str], Visit]
"""Visits by site and session_id."""


def group(hits: Iterable[Hit]) -> Visits:
    """Group hits, which are in the order of time, by their session."""
    visits: Visits = {}
    for hit in hits:
        session = (hit.site_uuid, hit.session_id)
        visit = visits.get(session)
        texts = hit.texts
        status = STATUSES.get(texts.member_status or "", OTHER_STATUS)
        if visit is None:
            facts = (texts.location or "", texts.os or "", texts.browser or "")
            visits[session] = Visit(hash_key(*session), hit, hit.ts, status, *facts)
        else:
            visit.last_ts = hit.ts
            visit.pageviews += 1
            visit.statuses |= status
            for fact in FACTS:
                if getattr(visit, fact) != (getattr(texts, fact) or ""):
                    setattr(visit, fact, None)
    return visits
