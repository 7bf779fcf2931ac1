"""A sync crosses this file from top to bottom, and is answered with success only if Tinybird has all of its rows.

Nothing is spooled: Ghost keeps what it has not been told is taken, and sends it again five minutes later, which is the
better spool. If a part was taken and the rest was not, the answer is a failure and that part comes again, which harms
nothing: statistics go by the newest version of a row, told by its updated_at.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from traffic_analytics.automation_sync import rows as sync_rows
from traffic_analytics.delivery.target import Verdict, warn_of_quarantine
from traffic_analytics.errors import (
    AnalyticsError,
    InvalidRows,
    KeyRefused,
    SyncDelayed,
    SyncFailed,
    UnsupportedMediaType,
)
from traffic_analytics.hits.endpoint import read_body
from traffic_analytics.hits.page_hit import is_uuid
from traffic_analytics.wsgi import Answer, answer_to

if TYPE_CHECKING:
    import threading

    from traffic_analytics.automation_sync.auth import SyncKey
    from traffic_analytics.delivery.target import Reply, Target

_log = logging.getLogger(__name__)

RETRY_AFTER = 30.0
"""Seconds after which to come again, if Tinybird does not say it. Ghost comes after five minutes, whatever we say."""
PATIENCE = 1.0
"""Seconds for which a sync waits for another to be done: Ghost sends its two tables together, and most take less. No
longer, as it takes a thread from hits."""
_MEDIA_TYPES = ("application/x-ndjson", "application/json")
_ADVICE = {
    Verdict.WRONG_SETUP: "TINYBIRD_TRACKER_TOKEN must be allowed to append to "
    f"{' and '.join(sync_rows.DATA_SOURCES)}, and PROXY_TARGET must be its region",
    Verdict.REFUSED: f"the workspace must have Ghost's data sources {' and '.join(sync_rows.DATA_SOURCES)}",
    Verdict.TOO_LARGE: f"it must take bodies of {sync_rows.BODY_LIMIT} bytes",
}


class SyncEndpoint:
    """Takes the rows of Ghost's automations from their WSGI environment to their answer."""

    def __init__(self, target: Target, key: SyncKey, slots: threading.Semaphore) -> None:
        self._target = target
        self._key = key
        self._slots = slots

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer one request, whatever is in it."""
        try:
            return self._receive(environ)
        except AnalyticsError as error:
            return answer_to(error)

    def _receive(self, environ: dict[str, Any]) -> Answer:
        if not self._key.is_in(environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")):
            _log.warning("a sync without the key of TINYBIRD_SYNC_AUTH was refused", extra={"event": "SyncKeyRefused"})
            raise KeyRefused("headers.authorization: must be Bearer and the key that this service shares with Ghost")
        check_media_type(environ)
        site_uuid = environ.get("HTTP_X_SITE_UUID", "")
        if not is_uuid(site_uuid):
            raise InvalidRows("headers.x-site-uuid: must be a UUID")
        asked_for = sync_rows.kind_asked_for(environ.get("QUERY_STRING", ""))
        if not self._slots.acquire(timeout=PATIENCE):
            raise SyncDelayed("as many syncs as may be are under way", RETRY_AFTER)
        try:
            parts = sync_rows.parse(read_rows(environ), site_uuid, asked_for)
            quarantined = sum(self._send(data_source, rows) for data_source, rows in parts.items())
        finally:
            self._slots.release()
        taken = sum(rows.count for rows in parts.values())
        _log.info("%d rows of automations were taken", taken, extra={"event": "RowsSynced", "rows": taken})
        return Answer(202, json.dumps({"rows": taken, "quarantined_rows": quarantined}).encode())

    def _send(self, data_source: str, rows: sync_rows.Rows) -> int:
        """Send rows on; returns how many of them went to quarantine, where it would not help to send them again."""
        reply = self._target.post_batch(data_source, [bytes(rows.ndjson)])
        if reply.verdict is not Verdict.TAKEN:
            raise _failure(data_source, reply, _ADVICE.get(reply.verdict))
        if reply.successful + reply.quarantined != rows.count:
            raise _failure(data_source, reply, "it has not said that it has them: is PROXY_TARGET a Tinybird?")
        if not reply.successful:
            raise _failure(data_source, reply, "all went to quarantine: the data source must be as Ghost ships it")
        warn_of_quarantine(data_source, reply)
        return reply.quarantined


def _failure(data_source: str, reply: Reply, advice: str | None) -> AnalyticsError:
    """Make an error of an answer; with advice it is one that lasts until somebody acts."""
    said = f"Tinybird did not take the rows for {data_source}: {reply.reason}"
    if advice is not None:
        _log.error("%s; %s", said, advice, extra={"event": "SyncMisconfigured"})
        return SyncFailed(f"{said}; the log of this service says what to do")
    _log.warning("%s; Ghost sends them again", said, extra={"event": "SyncDelayed"})
    return SyncDelayed(said, RETRY_AFTER if reply.retry_after is None else reply.retry_after)


def check_media_type(environ: dict[str, Any]) -> None:
    """Refuse what is not plain NDJSON, by its headers."""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType(f"headers.content-type: must be {' or '.join(_MEDIA_TYPES)}")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("headers.content-encoding: must be left out; rows are taken uncompressed")


def read_rows(environ: dict[str, Any]) -> bytes:
    """Read the body, or say that it is too long, or that the worker has as many long ones as it may have."""
    body = read_body(environ, sync_rows.BODY_LIMIT)
    if environ.get("traffic_analytics.unread"):
        raise SyncDelayed("as many syncs as may be are under way", RETRY_AFTER)
    return body
