"""Maintain a store that goes on serving: info, export, compaction, settling, sorting, versions, retention."""

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from analytics_store import events
from analytics_store.engine import Quarantined
from analytics_store.errors import UnavailableError
from analytics_store.events import DATA_SOURCES, QuarantinedRow
from analytics_store.store import Store

_log = logging.getLogger(__name__)

SECONDS_BETWEEN_RETENTIONS = 3_600.0
ROWS_AT_ONCE = 1_000
"""Rows in quarantine that are tried again in one commit."""
DAYS_UNTIL_SETTLED = timedelta(days=2)
"""Age of the days that are settled: the sessions of a day end within the next, and few hits arrive later."""
TIME_UNTIL_SORTED = timedelta(hours=1)
"""Time after midnight (UTC) at which the rows of a day are sorted; a few late hits are left where they arrive."""
SECONDS_BETWEEN_CHECKS = 10.0
SECONDS_BETWEEN_STEPS = 0.2
"""Pause in which other maintenance may write, in seconds."""


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


def sites(store: Store) -> list[dict[str, Any]]:
    """Return each site with its host, the counts of its content, and an estimate of its bytes on disk.

    The estimate shares the bytes in use by the number of hits.
    """
    store.hits.apply()
    found = store.engine.sites()
    hits = sum(site["hits"] for site in found) or 1
    in_use = store.engine.size() - store.engine.free_bytes()
    return [site | {"bytes_estimated": in_use * site["hits"] // hits} for site in found]


def export(store: Store, name: str, site: str | None = None) -> tuple[int, Iterator[bytes]]:
    """Count the rows of a data source, or of one site, and write them as NDJSON, as `engine.Engine.export` does."""
    events.require_data_source(name)
    store.hits.apply()
    return store.engine.export(name, site)


def delete_site(store: Store, site: str) -> int:
    """Delete all rows of a site, and rewrite the file, so that it holds none of their bytes; return the hits deleted.

    If the second step fails, for example on a full disk, the rows are deleted; the next compaction rewrites the file.
    """
    with store.hits.paused():
        hits = store.engine.erase(site)
        store.engine.compact()
    _log.info("a site was deleted, and the file rewritten", extra={"event": "SiteDeleted", "hits": hits})
    return hits


def quarantined(store: Store) -> list[Quarantined]:
    """Return the rows in quarantine, in the order of their arrival."""
    store.hits.apply()
    return store.engine.quarantined()


def retry_quarantined(store: Store, ids: Collection[str] | None = None) -> tuple[int, int]:
    """Store the rows in quarantine that fit by now, all or those of `ids`; return how many fit and how many do not.

    A row is stored before it leaves the quarantine; if that fails in between, it is in both, and a hit counts once.
    """
    stored = refused = 0
    selected = [each for each in quarantined(store) if ids is None or each.id in ids]
    for name in DATA_SOURCES:
        of_name = [each for each in selected if each.name == name]
        for start in range(0, len(of_name), ROWS_AT_ONCE):
            chunk = of_name[start : start + ROWS_AT_ONCE]
            rows = events.parse(name, (each.row.encode() for each in chunk), store.now())
            fitting = {
                each.id: row for each, row in zip(chunk, rows, strict=True) if not isinstance(row, QuarantinedRow)
            }
            if fitting:
                store.hits.add(list(fitting.values()))
                release(store, fitting)
            stored, refused = stored + len(fitting), refused + len(chunk) - len(fitting)
    return stored, refused


def release(store: Store, ids: Collection[str] | None = None) -> int:
    """Delete rows in quarantine, all or those of `ids`; return how many."""
    with store.hits.paused():
        return store.engine.release({each.id for each in store.engine.quarantined()} if ids is None else ids)


def import_rows(store: Store, name: str, body: bytes) -> dict[str, int]:
    """Add the lines of a body in one transaction; return how many rows were new, known, and quarantined."""
    events.require_data_source(name)
    return store.hits.add(events.parse(name, filter(bytes.strip, body.split(b"\n")), store.now()))


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


def settle(store: Store) -> float:
    """Settle one finished day, if one is left; return the seconds until the next call."""
    last = store.now().date() - DAYS_UNTIL_SETTLED
    if not store.engine.has_unsettled(last):
        return SECONDS_BETWEEN_CHECKS
    with store.hits.paused():
        store.engine.settle(last)
    return SECONDS_BETWEEN_STEPS


def sort(store: Store) -> float:
    """Sort the rows of one period that has ended, if one is left; return the seconds until the next call.

    Appends go on meanwhile; all other maintenance waits.
    """
    last = (store.now() - TIME_UNTIL_SORTED).date() - timedelta(days=1)
    with store.hits.maintaining():
        return SECONDS_BETWEEN_STEPS if store.engine.sort(last) else SECONDS_BETWEEN_CHECKS


def check(store: Store) -> dict[str, int]:
    """Compare what is derived from the hits with them; return the number of differences."""
    store.hits.apply()
    differences = store.engine.check()
    if any(differences.values()):
        _log.error("derived rows differ from the hits", extra={"event": "StoreDiffers", **differences})
    return differences


def apply_retention(store: Store) -> float:
    """Delete expired rows; return the seconds until the next call."""
    delete_expired(store)
    return SECONDS_BETWEEN_RETENTIONS


def delete_expired(store: Store) -> int:
    """Delete the rows that are older than their retention; return how many hits were deleted.

    STORE_SITE_RETENTION_DAYS counts for the sites that it lists, STORE_RETENTION_DAYS for all others.
    """
    settings = store.settings
    own = settings.site_retention_days or {}
    limits: list[tuple[int, str | None]] = [(days, site) for site, days in own.items()]
    if settings.retention_days is not None:
        limits.append((settings.retention_days, None))
    deleted = 0
    for days, site in limits:
        before = store.now() - timedelta(days=days)
        with store.hits.paused():
            hits = store.engine.forget(before, site, but=own if site is None else ())
        facts = {"hits": hits, "before": before.isoformat()}
        _log.info("hits older than the retention were deleted", extra={"event": "RetentionApplied", **facts})
        deleted += hits
    return deleted
