"""Parse the rows of a request: page hits to columns, other rows as they are, rows that break a rule for quarantine."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast
from uuid import UUID

import msgspec

from analytics_store import usual_hits
from analytics_store.columns import ID_CHARACTERS, LIMITS, OTHER_BYTES, OTHER_CHARACTERS, TEXT_CHARACTERS, TEXTS, Texts
from analytics_store.errors import DataSourceError
from analytics_store.sources import name_source
from analytics_store.timestamps import format_timestamp, parse_timestamp

PAGE_HITS = "analytics_events"
RAW_SOURCES = ("analytics_events_test", "automation_run_events", "automation_run_step_events")
"""Data sources whose rows are stored as they came: test events are not counted, automations by their newest version."""
DATA_SOURCES = (PAGE_HITS, *RAW_SOURCES)

UNKNOWN_DEVICE = "unknown"
QUARANTINED_CHARACTERS = 20_000
"""Longest text of a row in quarantine, in characters."""
RAW_BYTES = 50_000
"""Longest row that is stored as it came, in bytes: a longer one is quarantined."""
ROW_BYTES = 200_000
"""Longest row, in bytes: a longer one is quarantined before it is decoded. The service's longest takes half of this."""
DECODE = msgspec.json.Decoder().decode
ENCODE = msgspec.json.Encoder().encode
NIL = "00000000-0000-0000-0000-000000000000"
CANONICAL_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
CACHED_CHARACTERS = 200
"""Longest referrer whose source is cached, in characters."""


class InvalidRowError(ValueError):
    """A row breaks a rule of its data source; the message is the rule."""


class Hit(msgspec.Struct, gc=False):
    """A page hit; `event_key` is a UUID, and `meta` and `rest` hold the payload's fields without a column."""

    ts: datetime
    site_uuid: str
    session_id: str
    event_key: str | None
    event_name: str
    version: str
    source: str
    received_at: datetime | None
    inserted_at: datetime
    texts: Texts
    meta: str
    rest: str


class RawRow(msgspec.Struct, gc=False):
    """A row stored as it came."""

    name: str
    site_uuid: str
    ts: datetime
    event: str
    inserted_at: datetime


class QuarantinedRow(msgspec.Struct, gc=False):
    """A row that breaks a rule of its data source, with the rule."""

    name: str
    row: str
    reason: str
    inserted_at: datetime


Row = Hit | RawRow | QuarantinedRow


def require_data_source(name: str) -> None:
    """Raise DataSourceError if there is no data source of this name."""
    if name not in DATA_SOURCES:
        raise DataSourceError("there is no data source of this name")


def parse(name: str, lines: Iterable[bytes], arrived: datetime) -> list[Row]:
    """Parse lines as rows of a data source, one JSON object each, which arrived at a time (UTC without a zone)."""
    return [_parse_row(name, line, arrived) for line in lines]


def _parse_row(name: str, line: bytes, arrived: datetime) -> Row:
    if len(line) > ROW_BYTES:
        return quarantine(name, line, f"a row must not be longer than {ROW_BYTES} bytes", arrived)
    if name == PAGE_HITS:
        try:
            return _parse_usual_hit(line, arrived)
        except ValueError:
            pass  # any other row
    try:
        event = _require_object(DECODE(line), "a row")
        if name == PAGE_HITS and event.get("action") == "page_hit":
            return _parse_hit(event, arrived)
        return _parse_raw(name, event, arrived)
    except InvalidRowError as error:
        reason = str(error)
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, OverflowError):
        # The decoder's message may quote the row.
        reason = "not valid JSON in UTF-8"
    return quarantine(name, line, reason, arrived)


def quarantine(name: str, line: bytes, reason: str, arrived: datetime) -> QuarantinedRow:
    """Return the row for a line that cannot be stored otherwise."""
    # DuckDB's texts hold any character, but no bytes that are not UTF-8.
    start = line[: 4 * QUARANTINED_CHARACTERS]
    return QuarantinedRow(name, start.decode("utf-8", "replace")[:QUARANTINED_CHARACTERS], reason, arrived)


def _parse_usual_hit(line: bytes, arrived: datetime) -> Hit:
    """Parse a usual hit in half of the time that `_parse_hit` takes, with its result; raises ValueError for others.

    Only the order of the fields in `rest` may differ.
    """
    event = usual_hits.decode(line)
    payload = event.payload
    if isinstance(payload, str):
        payload = usual_hits.decode_payload(payload)
    payload.device = payload.device or UNKNOWN_DEVICE
    rest = ENCODE(usual_hits.rest(payload))[1:-1]
    if len(rest) > OTHER_BYTES:
        raise ValueError("too long")
    event_key, event_name = _event_key(payload.event_id)
    return Hit(
        parse_timestamp(event.timestamp),
        payload.site_uuid,
        event.session_id,
        event_key,
        event_name,
        event.version or "",
        _name_source(payload.referrerSource or ""),
        _readable_timestamp(payload.meta and payload.meta.received_timestamp),
        parse_timestamp(event.inserted_at) if event.inserted_at else arrived,
        payload,
        "",
        rest.decode(),
    )


def _parse_hit(event: dict[str, Any], arrived: datetime) -> Hit:
    payload = _payload(event)
    ts = _timestamp(event, "timestamp")
    session_id = _required_text(event, "session_id")
    site_uuid = _required_text(payload, "site_uuid", "payload.site_uuid")
    version = _text(event, "version")
    # The fields with a column are removed from the payload; the rest is stored as it is.
    del payload["site_uuid"]
    remove = payload.pop
    texts = Texts()
    for field, column in TEXTS.items():
        value = remove(field, None)
        if not (value is None or isinstance(value, str)):
            raise InvalidRowError(f"{field} must be a text or null")
        setattr(texts, column, value and value[: LIMITS.get(field, TEXT_CHARACTERS)])
    texts.device = texts.device or UNKNOWN_DEVICE
    identifiers = (session_id, site_uuid, version, texts.member_uuid or "", texts.post_uuid or "")
    if max(map(len, identifiers)) > ID_CHARACTERS:
        raise InvalidRowError(f"an identifier must not be longer than {ID_CHARACTERS} characters")
    meta = remove("meta", None)
    if not (meta is None or isinstance(meta, dict)):
        raise InvalidRowError("payload.meta must be an object or null")
    meta = meta or {}
    source = _name_source(_text(payload, "referrerSource") or _text(meta, "referrerSource"))
    received_at = _readable_timestamp(meta.pop("received_timestamp", None))
    event_id = remove("event_id", None)
    event_key, event_name = _event_key(event_id if isinstance(event_id, str) else None)
    return Hit(
        ts=ts,
        site_uuid=site_uuid,
        session_id=session_id,
        event_key=event_key,
        event_name=event_name,
        version=version,
        source=source,
        received_at=received_at,
        inserted_at=_optional_timestamp(event, "inserted_at") or arrived,
        texts=texts,
        meta=_members(meta),
        rest=_members(payload),
    )


def _parse_raw(name: str, event: dict[str, Any], arrived: datetime) -> RawRow:
    payload = _payload(event)
    if name.startswith("automation_"):
        for key in ("id", "site_uuid"):
            if not (_text(event, key) or _text(payload, key)):
                raise InvalidRowError(f"{key} must not be empty")
        required = ("automation_id",) if name == "automation_run_events" else ("automation_run_id", "status")
        for key in required:
            _required_text(payload, key, f"payload.{key}")
        # The SQL of the pipes reads timestamps in one form only.
        if name == "automation_run_events":
            payload = {**payload, "created_at": format_timestamp(_timestamp(payload, "created_at"))}
        if inserted_at := _optional_timestamp(event, "inserted_at"):
            event = {**event, "inserted_at": format_timestamp(inserted_at)}
        ts = _timestamp(event if event.get("updated_at") is not None else payload, "updated_at")
    else:
        for key in ("session_id", "action", "version"):
            _text(event, key)
        ts = _timestamp(event, "timestamp")
    site_uuid = _text(event, "site_uuid") or _text(payload, "site_uuid")
    encoded = ENCODE({**event, "payload": payload})
    if len(encoded) > RAW_BYTES:
        raise InvalidRowError(f"a row that is no page hit must not be longer than {RAW_BYTES} bytes")
    return RawRow(name, site_uuid, ts, encoded.decode(), arrived)


def _payload(event: Mapping[str, Any]) -> dict[str, Any]:
    payload = event.get("payload")
    if isinstance(payload, str):
        # Tinybird's column is a text; its clients send a text or an object.
        payload = DECODE(payload)
    return _require_object(payload, "payload")


def _require_object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRowError(f"{place} must be a JSON object")
    return cast("dict[str, Any]", value)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRowError(f"{name} must be a text or null")
    return value


def _required_text(fields: Mapping[str, Any], name: str, place: str = "") -> str:
    if text := _text(fields, name):
        return text
    raise InvalidRowError(f"{place or name} must not be empty")


def _timestamp(fields: Mapping[str, Any], name: str) -> datetime:
    text = _text(fields, name)
    try:
        return parse_timestamp(text)
    except ValueError:
        raise InvalidRowError(f"{name} must be a date and time") from None


def _optional_timestamp(fields: Mapping[str, Any], name: str) -> datetime | None:
    return _timestamp(fields, name) if _text(fields, name) else None


def _readable_timestamp(value: object) -> datetime | None:
    """Return a timestamp that only the monitoring reads; an unreadable one must not cost the hit."""
    try:
        return parse_timestamp(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _members(of: dict[str, Any]) -> str:
    """Write an object without its braces, so that an export can add it to other members.

    If it is over OTHER_BYTES, its texts are cut, and then its largest members are left out until it fits.
    """
    written = ENCODE(of)[1:-1]
    if len(written) > OTHER_BYTES:
        members = {key: ENCODE(_cut(value)) for key, value in of.items()}
        sizes = {key: len(ENCODE(key)) + len(value) + len(":,") for key, value in members.items()}
        left = sum(sizes.values())
        for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if left <= OTHER_BYTES:
                break
            left -= sizes[key]
            del members[key]
        written = ENCODE({key: msgspec.Raw(value) for key, value in members.items()})[1:-1]
    return written.decode()


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value[:OTHER_CHARACTERS]
    return {key: _cut(member) for key, member in value.items()} if isinstance(value, dict) else value


def _name_source(referrer: str) -> str:
    if len(referrer) > CACHED_CHARACTERS:
        return name_source(referrer)[:TEXT_CHARACTERS]
    return _name_short_source(referrer)


# Most hits come from few sources.
_name_short_source = lru_cache(maxsize=4_096)(name_source)


def _event_key(event_id: str | None) -> tuple[str | None, str]:
    """Shorten an event_id to a UUID; one that is no canonical UUID is also stored as it is, unless it is long.

    An export writes the UUID of a long one, which an import reads as the same event.
    """
    if not event_id:
        return None, ""
    if CANONICAL_UUID(event_id) and event_id != NIL:
        return event_id, ""
    return str(UUID(hash_key(event_id))), event_id if len(event_id) <= ID_CHARACTERS else ""


def hash_key(*parts: str) -> str:
    """Derive a UUID from texts, in hexadecimal digits."""
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
