"""Divide ranges of days into the slots of a chart; a day of a time zone may have 23 or 25 hours, or none."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from math import gcd
from typing import NamedTuple

EARLIEST = date(1970, 1, 1)
"""First day of a query, as Tinybird's type has it; the part of a range before it is left out."""
LATEST = date(2299, 12, 31)
"""Last day of a query; no hit lies before EARLIEST or after this day."""
ONE_DAY = timedelta(days=1)
# Since 1980, from which the store accepts hits, hours begin on a quarter of an hour of UTC in every named zone.
STEP = timedelta(minutes=15)


class Slot(NamedTuple):
    """Row of a chart: hits and sessions from `start` until before `stop` (UTC) count under `label`."""

    start: datetime
    stop: datetime
    label: str


def today(now: datetime, tz: tzinfo) -> date:
    """Return the date in a time zone at a time (UTC without a zone)."""
    return now.replace(tzinfo=UTC).astimezone(tz).date()


def midnight(day: date, tz: tzinfo) -> datetime:
    """Return the time at which a day begins, in UTC without a zone.

    If the clock skips midnight the day begins at the skip; if midnight occurs twice, at the first. A day that the clock
    skips as a whole begins when the next one does.
    """
    return to_utc(datetime.combine(day, time()), tz)


def to_utc(local: datetime, tz: tzinfo) -> datetime:
    """Return the time, in UTC without a zone, at which a zone's clock shows a time; the first if it does so twice."""
    return local - (tz.utcoffset(local) or timedelta())


def day_slots(first: date, last: date, tz: tzinfo) -> list[Slot]:
    """List the days of a range, first and last included; none if it is empty."""
    days = [first + n * ONE_DAY for n in range((last - first).days + 2)]
    starts = [midnight(day, tz) for day in days]
    return [Slot(start, stop, day.isoformat()) for day, (start, stop) in zip(days, pairwise(starts), strict=False)]


def hour_slots(day: date, tz: tzinfo) -> list[Slot]:
    """List the hours of a day in its time zone: an hour that occurs twice is listed twice, a skipped one is not."""
    end = midnight(day + ONE_DAY, tz)
    starts: list[tuple[datetime, str]] = []
    at, before = midnight(day, tz), None
    while at < end:
        local = at.replace(tzinfo=UTC).astimezone(tz)
        # Lord Howe's clock moves by half an hour, so only the fold distinguishes an hour that occurs twice.
        if (local.hour, local.fold) != before:
            before = (local.hour, local.fold)
            starts.append((at, f"{day.isoformat()} {local.hour:02d}:00:00"))
        at += STEP
    stops = [*(start for start, _ in starts), end][1:]
    return [Slot(start, stop, label) for (start, label), stop in zip(starts, stops, strict=True)]


def common_width(slots: list[Slot], until: datetime) -> timedelta:
    """Return the longest time, of at most a day, of which all slots begin and stop a multiple before `until`."""
    distances = (until - edge for slot in slots for edge in (slot.start, slot.stop))
    return timedelta(seconds=gcd(*(distance // timedelta(seconds=1) for distance in (ONE_DAY, *distances))))
