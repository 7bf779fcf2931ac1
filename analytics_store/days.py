"""Divide ranges of days into the slots of a chart; a day of a time zone may have 23 or 25 hours."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from analytics_store.errors import ParameterError

MOST_DAYS = 3_660
"""Longest range of a query, in days: ten years. A longer chart has no use and costs memory."""
# Since then the hours of every time zone begin on a quarter of an hour of UTC; the SQL of charts relies on it.
EARLIEST = date(1980, 1, 1)
LATEST = date(2299, 1, 1)
STEP = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of a chart: hits and sessions from `start` until before `stop` (UTC) count under `label`."""

    start: datetime
    stop: datetime
    label: str


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ParameterError("timezone", "must be an IANA time zone such as Europe/Berlin") from None


def today(now: datetime, tz: ZoneInfo) -> date:
    """Return the date in a time zone at a time (UTC without a zone)."""
    return now.replace(tzinfo=UTC).astimezone(tz).date()


def midnight(day: date, tz: ZoneInfo) -> datetime:
    """Return the time at which a day begins, in UTC without a zone.

    If the clock skips midnight the day begins at the skip; if midnight occurs twice, at the first.
    """
    local = datetime.combine(day, time(), tz)
    return local.astimezone(UTC).replace(tzinfo=None)


def day_slots(first: date, last: date, tz: ZoneInfo) -> list[Slot]:
    """List the days of a range, first and last included; none if it is empty."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [Slot(midnight(day, tz), midnight(day + timedelta(days=1), tz), day.isoformat()) for day in days]


def hour_slots(day: date, tz: ZoneInfo) -> list[Slot]:
    """List the hours of a day in its time zone: an hour that occurs twice is listed twice, a skipped one is not."""
    end = midnight(day + timedelta(days=1), tz)
    starts: list[tuple[datetime, str]] = []
    at, before = midnight(day, tz), None
    while at < end:
        local = at.replace(tzinfo=UTC).astimezone(tz)
        # Lord Howe's clock moves by half an hour, so only the fold distinguishes an hour that occurs twice.
        if (local.hour, local.fold) != before:
            before = (local.hour, local.fold)
            starts.append((at, f"{day.isoformat()} {local.hour:02d}:00:00"))
        at += STEP
    stops = [start for start, _ in starts[1:]] + [end]
    return [Slot(start, stop, label) for (start, label), stop in zip(starts, stops, strict=True)]
