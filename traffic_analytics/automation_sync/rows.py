"""Parse the rows of Ghost's automations, one a line, for two data sources; one invalid line refuses all.

Only the fields that statistics read are checked. Other fields pass unchanged, since a newer Ghost may send more
columns. `type` is removed: it names Ghost's table and repeats the data source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, UnsetType

from traffic_analytics.errors import BodyTooLarge, InvalidRows
from traffic_analytics.hits.page_hit import DATE_AND_TIME, is_date, place_and_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY_LIMIT = 9 * 1024 * 1024
"""Size of the largest body, in bytes: Ghost's own limit, below Tinybird's 10 MB."""
MAX_LINES = 1000

T = TypeVar("T")
Text: TypeAlias = str | UnsetType | None

_TIMESTAMP = re.compile(DATE_AND_TIME + r"(\.[0-9]{1,6})?Z")


class Run(msgspec.Struct, frozen=True):
    """Payload of a run of an automation."""

    site_uuid: str
    automation_id: str
    created_at: str
    id: str | UnsetType = UNSET
    updated_at: Text = UNSET


class Step(msgspec.Struct, frozen=True):
    """Payload of a step of a run."""

    site_uuid: str
    automation_run_id: str
    status: str
    id: str | UnsetType = UNSET
    automation_action_revision_id: Text = UNSET
    step_attempts: int | UnsetType | None = UNSET
    ready_at: Text = UNSET
    started_at: Text = UNSET
    finished_at: Text = UNSET
    created_at: Text = UNSET
    updated_at: Text = UNSET


class Line(msgspec.Struct, frozen=True):
    """A line: the payload and the fields beside it."""

    site_uuid: str
    id: str
    updated_at: str
    payload: Raw
    type: Literal["automation_runs", "automation_run_steps"] | UnsetType = UNSET


class Shape(msgspec.Struct, frozen=True):
    """Fields that distinguish the two payloads."""

    automation_id: Raw | UnsetType = UNSET
    automation_run_id: Raw | UnsetType = UNSET


class Kind(NamedTuple):
    """Kind of a row: its type, data source and decoder."""

    type: str
    data_source: str
    payload: msgspec.json.Decoder[Any]


@dataclass(slots=True)
class Rows:
    """Rows of one data source, as NDJSON."""

    count: int = 0
    ndjson: bytearray = field(default_factory=bytearray)

    def append(self, row: bytes) -> None:
        """Append a row."""
        if self.count:
            self.ndjson += b"\n"
        self.ndjson += row
        self.count += 1


RUNS = Kind("automation_runs", "automation_run_events", msgspec.json.Decoder(Run))
STEPS = Kind("automation_run_steps", "automation_run_step_events", msgspec.json.Decoder(Step))
_OF_TYPE = {kind.type: kind for kind in (RUNS, STEPS)}
_OF_DATA_SOURCE = {kind.data_source: kind for kind in (RUNS, STEPS)}
DATA_SOURCES = tuple(_OF_DATA_SOURCE)

_line = msgspec.json.Decoder(Line)
_shape = msgspec.json.Decoder(Shape)
_members = msgspec.json.Decoder(dict[str, Raw])


def parse_query(query: str) -> Kind | None:
    """Read the kind of the data source that a query string names; None if it names none."""
    names = parse_qs(query, keep_blank_values=True).get("name")
    if names is None:
        return None
    if len(names) != 1 or names[0] not in _OF_DATA_SOURCE:
        raise InvalidRows("query.name", f"must be absent or exactly one of {', '.join(DATA_SOURCES)}")
    return _OF_DATA_SOURCE[names[0]]


def parse(body: bytes, site_uuid: str, requested: Kind | None) -> dict[str, Rows]:
    """Check every line and return the rows of each data source, in their order.

    Blank lines are skipped, but count as lines. Raises InvalidRows, or BodyTooLarge for too many lines, and no other
    error for any input.
    """
    site = site_uuid.lower()
    parts: dict[str, Rows] = {}
    for number, line in enumerate(_lines(body), 1):
        if line:
            data_source, row = _parse_line(line, f"line {number}", site, requested)
            parts.setdefault(data_source, Rows()).append(row)
    if not parts:
        raise InvalidRows("body", "must hold at least one row")
    return parts


def _lines(body: bytes) -> Iterator[bytes]:
    """Yield one line at a time; splitting the body at once would copy up to 9 MiB."""
    start = 0
    for _ in range(MAX_LINES):
        end = body.find(b"\n", start)
        if end < 0:
            yield body[start:].strip()
            return
        yield body[start:end].strip()
        start = end + 1
    if body[start:].strip():
        raise BodyTooLarge(f"body: must be at most {MAX_LINES} lines")


def _parse_line(text: bytes, place: str, site: str, requested: Kind | None) -> tuple[str, bytes]:
    if not text.isascii():
        _check_encoding(text, place)
    line = _decode(_line, text, place)
    kind = _kind(line, place, requested)
    _check_fields(line, place, site)
    _check_fields(_decode(kind.payload, line.payload, f"{place}.payload"), f"{place}.payload", site)
    # A dictionary keeps one of two members with the same name; readers differ in which one they use.
    members = _members.decode(text)
    members.pop("type", None)
    members["payload"] = Raw(msgspec.json.encode(_members.decode(line.payload)))
    return kind.data_source, msgspec.json.encode(members)


def _check_encoding(text: bytes, place: str) -> None:
    try:
        text.decode()  # the decoder does not check the encoding of raw fields
    except UnicodeDecodeError:
        raise InvalidRows(place, "must be in UTF-8") from None


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | Raw, place: str) -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        inner, rule = place_and_rule(error)
        if rule.startswith("Invalid enum value"):
            rule = f"must be one of {', '.join(_OF_TYPE)}"
        raise InvalidRows(f"{place}{inner}", rule) from None
    except (ValueError, RecursionError):
        raise InvalidRows(place, "must be a JSON object") from None


def _kind(line: Line, place: str, requested: Kind | None) -> Kind:
    if line.type is not UNSET:
        if requested is not None and line.type != requested.type:
            raise InvalidRows(f"{place}.type", f"must be {requested.type} for the data source in ?name")
        return _OF_TYPE[line.type]
    if requested is not None:
        return requested
    shape = _decode(_shape, line.payload, f"{place}.payload")
    if (shape.automation_id is UNSET) == (shape.automation_run_id is UNSET):
        raise InvalidRows(f"{place}.payload", "must hold either automation_id or automation_run_id")
    return RUNS if shape.automation_run_id is UNSET else STEPS


def _check_fields(part: Line | Run | Step, place: str, site: str) -> None:
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if not isinstance(value, str):
            continue
        if name == "site_uuid":
            if value.lower() != site:
                raise InvalidRows(f"{place}.site_uuid", "must be that of the header x-site-uuid")
        elif name.endswith("_at"):
            if not _TIMESTAMP.fullmatch(value) or not is_date(value):
                raise InvalidRows(f"{place}.{name}", "must be a date and time like 2026-01-31T23:59:59.999Z")
        elif not value.strip():
            raise InvalidRows(f"{place}.{name}", "must not be blank")
