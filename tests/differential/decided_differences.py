"""Change Ghost's queries where the store differs on purpose; docs/reference/statistics.md gives the reasons.

After these changes both must return the same rows. Queries for which no change is possible are not compared.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.differential.ghost import Ghost

UTC_TODAY = "today()"
ZONE_TODAY = "toDate(now(), {{ String(timezone, 'Etc/UTC') }})"
ZONE = "{{ String(timezone, 'Etc/UTC') }}"
RANGE = f"""
    {{% if defined(date_from) %}}and timestamp >= toDateTime({{{{ Date(date_from) }}}}, {ZONE})
    {{% else %}}and timestamp >= toDateTime(dateAdd(day, -7, today()), {ZONE}){{% end %}}
    {{% if defined(date_to) %}}and timestamp < toDateTime({{{{ Date(date_to) }}}}, {ZONE}) + interval 1 day
    {{% else %}}and timestamp < toDateTime(dateAdd(day, 1, today()), {ZONE}){{% end %}}
"""
GIFT_LINK = (
    "{% if defined(gift_link) %}{% if gift_link == 'false' or gift_link == '0' %} and gift_link = '' "
    "{% else %} and gift_link != '' {% end %}{% end %}"
)
POST_UUID = "{% if defined(post_uuid) %} and post_uuid ="
LOCATION = "{% if defined(location) %}"


def apply(ghost: Ghost) -> None:
    """Change the queries."""
    # The older pipes lack the filter by gift link.
    ghost.replace(
        POST_UUID, f"{GIFT_LINK}\n{POST_UUID}", r"^(filtered_sessions|api_top_\w+|api_kpis|api_active_\w+)_v2$"
    )
    ghost.replace(
        "defined(pathname) or defined(post_uuid) %}",
        "defined(pathname) or defined(post_uuid) or defined(gift_link) %}",
        "^api_kpis_v2$",
    )
    # Pages and locations count the hits of the range only.
    ghost.replace(LOCATION, f"{RANGE}\n{LOCATION}", r"^api_top_(pages|locations)(_v2)?$")
    ghost.replace(
        "case when post_uuid = 'undefined' then", "case when h.post_uuid = 'undefined' then", "^api_top_pages"
    )
    # post_uuid= and post_uuid=undefined filter by these values, not by the value shown in their place.
    ghost.replace("and post_uuid =", "and h.post_uuid =", "^api_top_pages")
    # Without dates the days end today in the zone asked, not in UTC.
    for pipe in (r"^filtered_sessions", r"^api_top", r"^api_kpis", r"^mv_session_data$"):
        ghost.replace(UTC_TODAY, ZONE_TODAY, pipe)
    # Rates are cut exactly; as floating-point numbers 0.29 times 100 is less than 29.
    for column in ("is_bounce", "session_sec"):
        exact = f"intDiv(100 * sum(toInt64(s.{column})), count()) / 100"
        ghost.replace(f"truncate(avg(s.{column}), 2)", exact, "^api_kpis")


def find_reason_not_to_compare(ghost: Ghost, pipe: str, params: Mapping[str, str]) -> str | None:
    """Return why a query cannot be compared, if so."""
    zone = params.get("timezone", "Etc/UTC")
    days = [date.fromisoformat(params[name]) for name in ("date_from", "date_to") if name in params]
    if "monitoring" in pipe or not (days or "timezone" in params):
        return None
    around = [day + timedelta(days=n) for day in days for n in (-1, 0, 1, 2)]
    if not _has_same_clock(ghost, zone, around):
        return "the clocks of this build of ClickHouse differ from those of the package tzdata"
    if pipe.startswith("api_kpis") and len(days) == 2 and days[0] == days[1] and _changes_clock(zone, days[0]):
        return "the hours of a day with a clock change: the store lists those that the clock strikes"
    return None


def _has_same_clock(ghost: Ghost, zone: str, days: list[date]) -> bool:
    for day in days:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        hours = [midnight + timedelta(hours=n) for n in range(24)]
        stamps = ", ".join(str(int(hour.timestamp())) for hour in hours)
        sql = f"SELECT arrayMap(x -> toString(toDateTime(x, '{zone}')), [{stamps}]) AS clocks"
        expected = [hour.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S") for hour in hours]
        if ghost.query(sql)[0]["clocks"] != expected:
            return False
    return True


def _changes_clock(zone: str, day: date) -> bool:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    offsets = {(noon + timedelta(hours=n)).astimezone(ZoneInfo(zone)).utcoffset() for n in range(-28, 29)}
    return len(offsets) > 1
