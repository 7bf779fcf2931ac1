"""Read the time zone of a query: an IANA name, or an offset from UTC."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

# A plus sign that is not percent-encoded in a URL arrives as a space; U+2212 is the minus sign of typography.
OFFSET = re.compile(r"(?:UTC|GMT)?([+ -]|\u2212)(\d|[01]\d|2[0-3])(?::?([0-5]\d))?", re.ASCII | re.IGNORECASE)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name, in any case, or by its offset such as `+05:30` or `UTC-8`.

    Any other name is UTC: browsers send `Etc/Unknown`, or names that are newer than the data of this machine.
    """
    if known := _names().get(name.lower()):
        return ZoneInfo(known)
    offset = OFFSET.fullmatch(name)
    if offset is None:
        return UTC
    sign, hours, minutes = offset.groups("0")
    distance = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(distance if sign in "+ " else -distance)


@cache
def _names() -> dict[str, str]:
    # Listed once, which takes 60 ms; a look-up by ZoneInfo would read files for every unknown name.
    return {name.lower(): name for name in available_timezones()}
