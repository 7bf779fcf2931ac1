"""A row that fits the schema of its data source is taken apart into columns; any other is set aside with the reason."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, cast
from uuid import UUID

import msgspec

from analytics_store.errors import RequestError
from analytics_store.instants import iso, parse_instant
from analytics_store.sources import source_of

PAGE_HITS = "analytics_events"
# Rows of these are kept as they came: they are never counted (test events) or counted from their newest version.
KEPT_WHOLE = ("analytics_events_test", "automation_run_events", "automation_run_step_events")
DATA_SOURCES = (PAGE_HITS, *KEPT_WHOLE)

# Texts of the payload that have a column of their own, under the payload's name for them.
TEXTS = (
    "member_uuid",
    "member_status",
    "post_uuid",
    "post_type",
    "gift_link",
    "locale",
    "location",
    "pathname",
    "href",
    "device",
    "os",
    "browser",
    "user-agent",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
)
DEFAULTS = {"device": "unknown"}
COLUMNS = {name: name.replace("-", "_") for name in TEXTS}
QUARANTINED_CHARACTERS = 20_000
DECODE = msgspec.json.Decoder().decode
ENCODE = msgspec.json.Encoder().encode
NIL = UUID(int=0)


class UnfitError(ValueError):
    """A row breaks a rule of its data source; the message is the rule."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One page hit in columns; `texts` are in the order of TEXTS, `meta` and `rest` hold what has no column."""

    ts: datetime
    site_uuid: str
    session_id: str
    session_key: UUID
    event_key: UUID | None
    event_name: str
    version: str
    source: str
    received_at: datetime | None
    inserted_at: datetime | None
    texts: tuple[str, ...]
    meta: str
    rest: str


@dataclass(frozen=True, slots=True)
class Whole:
    """One row kept as it came."""

    name: str
    site_uuid: str
    ts: datetime
    event: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """One row set aside."""

    name: str
    row: str
    reason: str


Row = Hit | Whole | Misfit


def parse(name: str, body: bytes) -> list[Row]:
    """Read a body of NDJSON, or of one object over any number of lines, as rows of a data source."""
    rows = [_parse_one(name, line) for line in _split(body)]
    if not rows:
        raise RequestError("the body holds no event")
    return rows


def _split(body: bytes) -> Iterator[bytes]:
    lines = [stripped for line in body.split(b"\n") if (stripped := line.strip())]
    if len(lines) > 1 and not _is_json(lines[0]) and _is_json(body):
        yield body
    else:
        yield from lines


def _is_json(text: bytes) -> bool:
    try:
        DECODE(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_one(name: str, line: bytes) -> Row:
    try:
        event = _object(DECODE(line), "a row")
        return _hit(event) if name == PAGE_HITS and event.get("action") == "page_hit" else _whole(name, event)
    except UnfitError as error:
        reason = str(error)
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, OverflowError):
        # The decoder's text may quote the row.
        reason = "not valid JSON in UTF-8"
    # DuckDB's texts end at no character but cannot hold what is not UTF-8.
    return Misfit(name, line.decode("utf-8", "replace")[:QUARANTINED_CHARACTERS], reason)


def _hit(event: dict[str, Any]) -> Hit:
    payload = dict(_payload(event))
    ts = _instant(event, "timestamp")
    session_id = _text(event, "session_id") or _refuse("session_id must not be empty")
    site_uuid = _text(payload, "site_uuid") or _refuse("payload.site_uuid must not be empty")
    version = _text(event, "version")
    meta = payload.get("meta")
    if not (meta is None or isinstance(meta, dict)):
        raise UnfitError("payload.meta must be an object or null")
    meta = dict(meta or {})
    source = _text(payload, "referrerSource") or _text(meta, "referrerSource")
    received_at = _instant_or_none(meta, "received_timestamp")
    inserted_at = _instant_or_none(event, "inserted_at")
    event_id = payload.get("event_id")
    event_key, event_name = _event_key(event_id) if isinstance(event_id, str) and event_id else (None, "")
    texts = tuple([_text(payload, name) or DEFAULTS.get(name, "") for name in TEXTS])
    for name in ("site_uuid", "event_id", "meta", *TEXTS):
        payload.pop(name, None)
    meta.pop("received_timestamp", None)
    return Hit(
        ts=ts,
        site_uuid=site_uuid,
        session_id=session_id,
        session_key=_key(site_uuid, session_id),
        event_key=event_key,
        event_name=event_name,
        version=version,
        source=source_of(source),
        received_at=received_at,
        inserted_at=inserted_at,
        texts=texts,
        meta=_members(meta),
        rest=_members(payload),
    )


def _whole(name: str, event: dict[str, Any]) -> Whole:
    payload = _payload(event)
    if name.startswith("automation_"):
        for key in ("id", "site_uuid"):
            if not (_text(event, key) or _text(payload, key)):
                raise UnfitError(f"{key} must not be empty")
        needed = ("automation_id",) if name == "automation_run_events" else ("automation_run_id", "status")
        for key in needed:
            if not _text(payload, key):
                raise UnfitError(f"payload.{key} must not be empty")
        # In one shape, so that SQL reads it as it was meant.
        if name == "automation_run_events":
            payload = {**payload, "created_at": iso(_instant(payload, "created_at"))}
        if inserted_at := _instant_or_none(event, "inserted_at"):
            event = {**event, "inserted_at": iso(inserted_at)}
        ts = _instant(event if event.get("updated_at") is not None else payload, "updated_at")
    else:
        for key in ("session_id", "action", "version"):
            _text(event, key)
        ts = _instant(event, "timestamp")
    site_uuid = _text(event, "site_uuid") or _text(payload, "site_uuid")
    return Whole(name, site_uuid, ts, ENCODE({**event, "payload": payload}).decode())


def _payload(event: Mapping[str, Any]) -> dict[str, Any]:
    payload = event.get("payload")
    if isinstance(payload, str):
        # Tinybird's column is a text, and its clients send either.
        payload = DECODE(payload)
    return _object(payload, "payload")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnfitError(f"{what} must be a JSON object")
    return cast("dict[str, Any]", value)


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnfitError(f"{name} must be a text or null")
    return value


def _instant(holder: Mapping[str, Any], name: str) -> datetime:
    try:
        return parse_instant(_text(holder, name))
    except UnfitError:
        raise
    except (ValueError, OverflowError):
        raise UnfitError(f"{name} must be a date and time") from None


def _instant_or_none(holder: Mapping[str, Any], name: str) -> datetime | None:
    return _instant(holder, name) if _text(holder, name) else None


def _members(of: dict[str, Any]) -> str:
    """Write an object without its braces, so that an export can put it beside other members."""
    return ENCODE(of)[1:-1].decode()


def _refuse(rule: str) -> str:
    raise UnfitError(rule)


def _event_key(event_id: str) -> tuple[UUID, str]:
    """Shorten an event_id to 16 bytes; one that is no canonical UUID is also kept as it is."""
    try:
        key = UUID(event_id)
    except ValueError:
        key = NIL
    return (key, "") if key != NIL and str(key) == event_id else (_key(event_id), event_id)


def _key(*parts: str) -> UUID:
    return UUID(bytes=blake2b("\0".join(parts).encode(), digest_size=16).digest())
