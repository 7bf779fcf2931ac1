"""Read the time zone of a query: an IANA name, or an offset from UTC."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

# A plus sign that is not percent-encoded in a URL arrives as a space; U+2212 is the minus sign of typography.
OFFSET = re.compile(r"(?:UTC|GMT)?([+ -]|\u2212)(\d|[01]\d|2[0-3])(?::?([0-5]\d))?", re.ASCII | re.IGNORECASE)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name, in any case, or by its offset such as `+05:30` or `UTC-8`.

    Any other name is UTC: browsers send `Etc/Unknown`, or names that are newer than the package tzdata. The zones are
    those of that package, so that a query counts alike on every machine.
    """
    if known := _names().get(name.lower()):
        return _load(known)
    offset = OFFSET.fullmatch(name)
    if offset is None:
        return UTC
    sign, hours, minutes = offset.groups("0")
    distance = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(distance if sign in "+ " else -distance)


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in (files("tzdata") / "zones").read_text("utf-8").split()}


@cache
def _load(name: str) -> ZoneInfo:
    # ZoneInfo(name) would prefer the files of the system.
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
