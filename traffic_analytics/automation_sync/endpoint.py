"""Handle one sync, from top to bottom; the response is a success only if Tinybird has stored all rows.

Rows are not spooled: Ghost keeps rows until it gets a success, and sends them again after five minutes. If Tinybird
stores only a part of a sync, the response is an error and Ghost repeats that part too. Repeated rows do no harm:
statistics use the version of a row with the newest `updated_at`.
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
from traffic_analytics.runtime.uuids import is_uuid
from traffic_analytics.wsgi import Answer, answer_to

if TYPE_CHECKING:
    import threading

    from traffic_analytics.automation_sync.auth import SyncKey
    from traffic_analytics.delivery.target import Reply, Target

_log = logging.getLogger(__name__)

RETRY_AFTER = 30.0
"""Retry-After without one from Tinybird, in seconds. Ghost ignores it and sends again after five minutes."""
SLOT_TIMEOUT = 1.0
"""Time for which a sync waits for another one to end, in seconds. Ghost sends its two tables together, and most end
sooner; a longer wait would occupy a thread that hits need."""
_TOO_MANY = "too many syncs are under way"
_MEDIA_TYPES = ("application/x-ndjson", "application/json")
_ADVICE = {
    Verdict.WRONG_SETUP: "TINYBIRD_TRACKER_TOKEN must be allowed to append to "
    f"{' and '.join(sync_rows.DATA_SOURCES)}, and PROXY_TARGET must be its region",
    Verdict.REFUSED: f"the workspace must have Ghost's data sources {' and '.join(sync_rows.DATA_SOURCES)}",
    Verdict.TOO_LARGE: f"it must accept bodies of {sync_rows.BODY_LIMIT} bytes",
}


class SyncEndpoint:
    """Handler of Ghost's syncs, from the WSGI environment to the response."""

    def __init__(self, target: Target, key: SyncKey, slots: threading.Semaphore) -> None:
        self._target = target
        self._key = key
        self._slots = slots

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Return the response to one request; raises only for defects."""
        try:
            return self._receive(environ)
        except AnalyticsError as error:
            return answer_to(error)

    def _receive(self, environ: dict[str, Any]) -> Answer:
        if not self._key.matches(environ.get("HTTP_AUTHORIZATION", "")):
            _log.warning("refused a sync without the key of TINYBIRD_SYNC_AUTH", extra={"event": "SyncKeyRefused"})
            raise KeyRefused("headers.authorization: must be Bearer and the key that Ghost and this service share")
        check_media_type(environ)
        site_uuid = environ.get("HTTP_X_SITE_UUID", "")
        if not is_uuid(site_uuid):
            raise InvalidRows("headers.x-site-uuid", "must be a UUID")
        requested_kind = sync_rows.parse_query(environ.get("QUERY_STRING", ""))
        if not self._slots.acquire(timeout=SLOT_TIMEOUT):
            raise SyncDelayed(_TOO_MANY, RETRY_AFTER)
        try:
            parts = sync_rows.parse(read_rows(environ), site_uuid, requested_kind)
            quarantined = sum(self._send(data_source, rows) for data_source, rows in parts.items())
        finally:
            self._slots.release()
        count = sum(rows.count for rows in parts.values())
        _log.info("delivered %d rows of automations", count, extra={"event": "RowsSynced", "rows": count})
        return Answer(202, json.dumps({"rows": count, "quarantined_rows": quarantined}).encode())

    def _send(self, data_source: str, rows: sync_rows.Rows) -> int:
        """Send rows to Tinybird; return the number of quarantined rows, for which sending again would not help."""
        reply = self._target.post_batch(data_source, [bytes(rows.ndjson)])
        if reply.verdict is not Verdict.TAKEN:
            raise _failure(data_source, reply, _ADVICE.get(reply.verdict))
        if reply.successful + reply.quarantined != rows.count:
            raise _failure(data_source, reply, "its response does not count them: is PROXY_TARGET a Tinybird?")
        if not reply.successful:
            raise _failure(data_source, reply, "all rows are in quarantine: the data source must be that of Ghost")
        warn_of_quarantine(data_source, reply)
        return reply.quarantined


def _failure(data_source: str, reply: Reply, advice: str | None) -> AnalyticsError:
    """Log a failed reply and return its error; with advice it persists until the operator acts."""
    message = f"Tinybird did not accept the rows for {data_source}: {reply.reason}"
    if advice is not None:
        _log.error("%s; %s", message, advice, extra={"event": "SyncMisconfigured"})
        return SyncFailed(f"{message}; see the log of this service")
    _log.warning("%s; Ghost will send them again", message, extra={"event": "SyncDelayed"})
    return SyncDelayed(message, RETRY_AFTER if reply.retry_after is None else reply.retry_after)


def check_media_type(environ: dict[str, Any]) -> None:
    """Check that the headers announce uncompressed NDJSON."""
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType(f"headers.content-type: must be {' or '.join(_MEDIA_TYPES)}")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("headers.content-encoding: must be absent: rows are accepted uncompressed only")


def read_rows(environ: dict[str, Any]) -> bytes:
    """Read the body. Raises BodyTooLarge, or SyncDelayed if the worker left it unread for too many large bodies."""
    body = read_body(environ, sync_rows.BODY_LIMIT)
    if environ.get("traffic_analytics.unread"):
        raise SyncDelayed(_TOO_MANY, RETRY_AFTER)
    return body
