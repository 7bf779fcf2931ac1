"""Group hits by session: all hits of one session_id of a site, of which the first gives source, device and utm_*."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from analytics_store.events import Hit


class Visit(msgspec.Struct, gc=False):
    """The part of one session that a batch of hits adds."""

    entry: Hit
    last_ts: datetime
    pageviews: int = 1


def group(hits: Iterable[Hit]) -> dict[str, Visit]:
    """Group hits, which are in the order of time, by the key of their session."""
    visits: dict[str, Visit] = {}
    for hit in hits:
        visit = visits.get(hit.session_key)
        if visit is None:
            visits[hit.session_key] = Visit(hit, hit.ts)
        else:
            visit.last_ts = hit.ts
            visit.pageviews += 1
    return visits
