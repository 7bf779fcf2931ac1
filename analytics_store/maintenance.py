"""Maintain a store that goes on serving: info, export, compaction, collapse of versions, retention."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from analytics_store.errors import DataSourceError, UnavailableError
from analytics_store.events import DATA_SOURCES
from analytics_store.store import Store

_log = logging.getLogger(__name__)

SECONDS_BETWEEN_RETENTIONS = 3_600.0


def info(store: Store) -> dict[str, Any]:
    """Return the counts of the store's content, its size on disk, and what waited in the journal."""
    store.hits.open()
    waited = store.hits.info()
    # The counts lag while maintenance is in progress.
    with suppress(UnavailableError):
        store.hits.apply()
    return {
        **store.engine.info(),
        **waited,
        "bytes_on_disk": store.engine.size(),
        "bytes_free_in_file": store.engine.free_bytes(),
        "max_mb": store.settings.max_mb,
        "retention_days": store.settings.retention_days,
        "memory_mb": store.settings.memory_mb,
    }


def count(store: Store, name: str) -> int:
    """Return the number of rows in an export of a data source."""
    if name not in DATA_SOURCES:
        raise DataSourceError("there is no data source of this name")
    store.hits.apply()
    return store.engine.count(name)


def export(store: Store, name: str) -> Iterator[bytes]:
    """Write a data source as NDJSON, page hits in the order of time, from one snapshot; memory use is bounded."""
    return store.engine.export(name)


def import_rows(store: Store, name: str, body: bytes) -> dict[str, int]:
    """Add the lines of a body in one transaction; return how many rows were new, known, and quarantined."""
    if name not in DATA_SOURCES:
        raise DataSourceError("there is no data source of this name")
    return store.hits.add(name, [line for line in body.split(b"\n") if line.strip()])


def compact(store: Store) -> None:
    """Collapse, then write a new file in the order of site and time and without unused space, in place of the old one.

    Appends are accepted into the journal meanwhile; queries wait only while the files are exchanged. The second file
    needs space. If the compaction breaks off, the old file is unchanged.
    """
    with store.hits.paused():
        _collapse(store)
        store.engine.compact()
    _log.info("the file was compacted", extra={"event": "StoreCompacted"})


def collapse(store: Store) -> int:
    """Delete all versions of automations' rows but the newest, which alone counts; return how many were deleted.

    A store that is killed meanwhile still has them all.
    """
    with store.hits.paused():
        return _collapse(store)


def _collapse(store: Store) -> int:
    rows = store.engine.collapse()
    if rows:
        _log.info("old versions of rows were deleted", extra={"event": "VersionsCollapsed", "versions": rows})
    return rows


def apply_retention(store: Store) -> float:
    """Delete expired rows; return the seconds until the next call."""
    delete_expired(store)
    return SECONDS_BETWEEN_RETENTIONS


def delete_expired(store: Store) -> int:
    """Delete the rows that are older than STORE_RETENTION_DAYS; return how many hits were deleted."""
    days = store.settings.retention_days
    if days is None:
        return 0
    before = store.now() - timedelta(days=days)
    with store.hits.paused():
        hits = store.engine.forget(before)
    facts = {"hits": hits, "before": before.isoformat()}
    _log.info("hits older than the retention were deleted", extra={"event": "RetentionApplied", **facts})
    return hits
