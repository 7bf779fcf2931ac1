"""Read timestamps in the forms that Tinybird's DateTime accepts; the store holds them in UTC without a zone."""

from datetime import UTC, datetime

EARLIEST = datetime(1980, 1, 1)  # noqa: DTZ001 - UTC without a zone, as in the whole store
LATEST = datetime(2299, 12, 31)  # noqa: DTZ001


def parse_timestamp(text: str) -> datetime:
    """Read `2026-11-22T00:30:13.714Z`, `2026-11-22 00:30:13` and similar forms; without a zone it is UTC.

    Raises ValueError for any other text, and for years outside the range of Tinybird's type.
    """
    if len(text) < len("2026-11-22 00:30:13"):
        raise ValueError("no date and time")
    if text.endswith("Z"):
        # Reading the zone and converting take longer than the rest; another zone before the Z is an error.
        timestamp = datetime.fromisoformat(text[:-1])
        if timestamp.tzinfo is not None:
            raise ValueError("two zones")
    elif (timestamp := datetime.fromisoformat(text)).tzinfo is not None:
        try:
            timestamp = timestamp.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            raise ValueError("out of range") from None
    if not EARLIEST <= timestamp <= LATEST:
        raise ValueError("out of range")
    return timestamp


def from_unix(at: float) -> datetime:
    """Convert a Unix time to UTC without a zone."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


def format_timestamp(timestamp: datetime) -> str:
    """Write a timestamp as browsers do, to the millisecond."""
    return f"{timestamp.isoformat(timespec='milliseconds')}Z"
