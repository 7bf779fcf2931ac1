"""Ghost's automations are rows of two data sources, one a line, and one wrong line spoils all of them.

What is checked is what the statistics of Tinybird and the store read. What else a row holds passes as it came, since a
newer Ghost may send more columns; all but `type`, which names the table in Ghost and says what the data source says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, UnsetType

from traffic_analytics.errors import BodyTooLarge, InvalidRows
from traffic_analytics.hits.page_hit import is_date, place_and_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY_LIMIT = 9 * 1024 * 1024
"""Bytes of the longest body, Ghost's own limit; below Tinybird's 10 MB."""
MOST_LINES = 1000

T = TypeVar("T")
Text: TypeAlias = str | UnsetType | None

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


class Run(msgspec.Struct, frozen=True):
    """The payload of a run of an automation."""

    site_uuid: str
    automation_id: str
    created_at: str
    id: str | UnsetType = UNSET
    updated_at: Text = UNSET


class Step(msgspec.Struct, frozen=True):
    """The payload of a step of a run."""

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
    """What is around a payload."""

    site_uuid: str
    id: str
    updated_at: str
    payload: Raw
    type: Literal["automation_runs", "automation_run_steps"] | UnsetType = UNSET


class Shape(msgspec.Struct, frozen=True):
    """What tells the two payloads apart."""

    automation_id: Raw | UnsetType = UNSET
    automation_run_id: Raw | UnsetType = UNSET


class Kind(NamedTuple):
    """One of the two kinds of rows."""

    type: str
    data_source: str
    payload: msgspec.json.Decoder[Any]


@dataclass(slots=True)
class Rows:
    """The rows of one data source, as they are sent on."""

    count: int = 0
    ndjson: bytearray = field(default_factory=bytearray)

    def append(self, row: bytes) -> None:
        """Add a row."""
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


def kind_asked_for(query: str) -> Kind | None:
    """Read which data source a query string names; None if it leaves that to the rows."""
    names = parse_qs(query, keep_blank_values=True).get("name")
    if names is None:
        return None
    if len(names) != 1 or names[0] not in _OF_DATA_SOURCE:
        raise InvalidRows(f"query.name: must be left out or be exactly one of {', '.join(DATA_SOURCES)}")
    return _OF_DATA_SOURCE[names[0]]


def parse(body: bytes, site_uuid: str, asked_for: Kind | None) -> dict[str, Rows]:
    """Check every line and return the rows of each data source, in their order, as they are to be sent on.

    Blank lines are skipped, but count. Raises InvalidRows, or BodyTooLarge for too many lines; nothing else, whatever
    was sent.
    """
    site = site_uuid.lower()
    parts: dict[str, Rows] = {}
    for number, line in enumerate(_lines(body), 1):
        if line:
            data_source, row = _checked(line, f"line {number}", site, asked_for)
            parts.setdefault(data_source, Rows()).append(row)
    if not parts:
        raise InvalidRows("body: must hold at least one row")
    return parts


def _lines(body: bytes) -> Iterator[bytes]:
    """Cut out one line after the other: all at once would be another 9 MiB."""
    begin = 0
    for _ in range(MOST_LINES):
        end = body.find(b"\n", begin)
        if end < 0:
            yield body[begin:].strip()
            return
        yield body[begin:end].strip()
        begin = end + 1
    if body[begin:].strip():
        raise BodyTooLarge(f"body: must be at most {MOST_LINES} lines")


def _checked(text: bytes, place: str, site: str, asked_for: Kind | None) -> tuple[str, bytes]:
    if not text.isascii():
        _check_encoding(text, place)
    line = _decode(_line, text, place)
    kind = _kind(line, place, asked_for)
    _check(line, place, site)
    _check(_decode(kind.payload, line.payload, f"{place}.payload"), f"{place}.payload", site)
    # Of two members of one name readers take one or the other: only one goes on.
    members = _members.decode(text)
    members.pop("type", None)
    members["payload"] = Raw(msgspec.json.encode(_members.decode(line.payload)))
    return kind.data_source, msgspec.json.encode(members)


def _check_encoding(text: bytes, place: str) -> None:
    try:
        text.decode()  # the decoder does not look into what it passes on
    except UnicodeDecodeError:
        raise InvalidRows(f"{place}: must be in UTF-8") from None


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | Raw, place: str) -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        inner, rule = place_and_rule(error)
        if rule.startswith("Invalid enum value"):
            rule = f"must be one of {', '.join(_OF_TYPE)}"
        raise InvalidRows(f"{place}{inner}: {rule}") from None
    except (ValueError, RecursionError):
        raise InvalidRows(f"{place}: must be a JSON object") from None


def _kind(line: Line, place: str, asked_for: Kind | None) -> Kind:
    if line.type is not UNSET:
        if asked_for is not None and line.type != asked_for.type:
            raise InvalidRows(f"{place}.type: must be {asked_for.type} for the data source in ?name")
        return _OF_TYPE[line.type]
    if asked_for is not None:
        return asked_for
    shape = _decode(_shape, line.payload, f"{place}.payload")
    if (shape.automation_id is UNSET) == (shape.automation_run_id is UNSET):
        raise InvalidRows(f"{place}.payload: must hold either automation_id or automation_run_id")
    return RUNS if shape.automation_run_id is UNSET else STEPS


def _check(part: Line | Run | Step, place: str, site: str) -> None:
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if not isinstance(value, str):
            continue
        if name == "site_uuid":
            if value.lower() != site:
                raise InvalidRows(f"{place}.site_uuid: must be that of the header x-site-uuid")
        elif name.endswith("_at"):
            if not _TIMESTAMP.fullmatch(value) or not is_date(value):
                raise InvalidRows(f"{place}.{name}: must be a date and time like 2026-01-31T23:59:59.999Z")
        elif not value.strip():
            raise InvalidRows(f"{place}.{name}: must not be blank")
