"""Instants come in the few shapes that Tinybird's DateTime takes, and are kept in UTC without a zone."""

from datetime import UTC, datetime

EARLIEST = datetime(1980, 1, 1)  # noqa: DTZ001 - the whole store counts in UTC without saying so
LATEST = datetime(2299, 12, 31)  # noqa: DTZ001


def parse_instant(text: str) -> datetime:
    """Read `2026-11-22T00:30:13.714Z`, `2026-11-22 00:30:13` and their like; what names no zone is UTC.

    Raises ValueError for anything else, and for years that Tinybird's own type cannot hold.
    """
    if len(text) < len("2026-11-22 00:30:13"):
        raise ValueError("no date and time")
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is not None:
        instant = instant.astimezone(UTC).replace(tzinfo=None)
    if not EARLIEST <= instant <= LATEST:
        raise ValueError("out of range")
    return instant


def iso(instant: datetime) -> str:
    """Write an instant as browsers do, to the millisecond."""
    return f"{instant.isoformat(timespec='milliseconds')}Z"
