"""A day is from midnight to midnight in the reader's time zone, so it may have 23 or 25 hours."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from analytics_store.errors import ParameterError

# Ten years of days are a chart that nobody reads; more would only cost memory.
MOST_DAYS = 3_660
# Since then every clock strikes its hours on a quarter of UTC's, which the SQL of charts makes use of.
EARLIEST = date(1980, 1, 1)
LATEST = date(2299, 1, 1)
STEP = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of a chart: what begins at `start` and ends before `stop` (UTC) counts under `label`."""

    start: datetime
    stop: datetime
    label: str


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Find a time zone by its IANA name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ParameterError("timezone", "must be an IANA time zone such as Europe/Berlin") from None


def today(now: datetime, tz: ZoneInfo) -> date:
    """Tell the date in a time zone at an instant (UTC without a zone)."""
    return now.replace(tzinfo=UTC).astimezone(tz).date()


def midnight(day: date, tz: ZoneInfo) -> datetime:
    """Tell when a day begins, in UTC without a zone.

    Where the clock jumps over midnight the day begins with the jump; where it strikes midnight twice, with the first.
    """
    local = datetime.combine(day, time(), tz)
    return local.astimezone(UTC).replace(tzinfo=None)


def day_slots(first: date, last: date, tz: ZoneInfo) -> list[Slot]:
    """List the days of a range, both inclusive; none if it is empty."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [Slot(midnight(day, tz), midnight(day + timedelta(days=1), tz), day.isoformat()) for day in days]


def hour_slots(day: date, tz: ZoneInfo) -> list[Slot]:
    """List the hours of a day as its clock shows them: one that strikes twice is listed twice, one skipped is not."""
    end = midnight(day + timedelta(days=1), tz)
    starts: list[tuple[datetime, str]] = []
    at, before = midnight(day, tz), None
    while at < end:
        local = at.replace(tzinfo=UTC).astimezone(tz)
        # Lord Howe's clock moves by half an hour: an hour's second strike is told by the fold, not by its length.
        if (local.hour, local.fold) != before:
            before = (local.hour, local.fold)
            starts.append((at, f"{day.isoformat()} {local.hour:02d}:00:00"))
        at += STEP
    stops = [start for start, _ in starts[1:]] + [end]
    return [Slot(start, stop, label) for (start, label), stop in zip(starts, stops, strict=True)]
