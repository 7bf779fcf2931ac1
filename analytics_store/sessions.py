"""Group hits by session: all hits of one session_id of a site, of which the first gives source, device and utm_*."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from analytics_store.columns import ENTRY
from analytics_store.events import Hit


@dataclass(slots=True)
class Visit:
    """The part of one session that a batch of hits adds."""

    entry: Hit
    last_ts: datetime
    pageviews: int = 1


def group(hits: Iterable[Hit]) -> dict[UUID, Visit]:
    """Group hits, which are in the order of time, by session."""
    visits: dict[UUID, Visit] = {}
    for hit in hits:
        visit = visits.get(hit.session_key)
        if visit is None:
            visits[hit.session_key] = Visit(hit, hit.ts)
        else:
            visit.last_ts = hit.ts
            visit.pageviews += 1
    return visits


def to_columns(visits: list[Visit], numbers: dict[UUID, int]) -> dict[str, Any]:
    """Turn visits to lists, one for each column of the table."""
    values: dict[str, Any] = {
        "session_no": [numbers[visit.entry.session_key] for visit in visits],
        "session_key": [visit.entry.session_key for visit in visits],
        "site_uuid": [visit.entry.site_uuid for visit in visits],
        "session_id": [visit.entry.session_id for visit in visits],
        "first_ts": [visit.entry.ts for visit in visits],
        "last_ts": [visit.last_ts for visit in visits],
        "pageviews": [visit.pageviews for visit in visits],
    }
    return values | {column: [visit.entry.texts[column] for visit in visits] for column in ENTRY}
