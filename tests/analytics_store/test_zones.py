"""Queries with time zones that are unknown, offsets, or whose clock skipped a day."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from flask.testing import FlaskClient

from analytics_store.endpoints import ENDPOINTS
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import Clock, hit_at, ndjson

DAY = timedelta(days=1)


def find_skipped_days() -> list[tuple[str, date]]:
    """Find the days since 1970 that no clock of a zone showed: its offset grew by most of a day."""
    found = []
    half_years = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(weeks=26 * n) for n in range(140)]
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        offsets = [zone.utcoffset(at.astimezone(zone)) or timedelta() for at in half_years]
        for at, before, after in zip(half_years, offsets, offsets[1:], strict=False):
            if after - before > timedelta(hours=20):
                shown = {(at + timedelta(hours=n)).astimezone(zone).date() for n in range(26 * 7 * 24)}
                found += [(name, day) for day in sorted({day + DAY for day in shown} - shown)[:-1]]
    return found


SKIPPED_DAYS = find_skipped_days()


def query(client: FlaskClient, pipe: str, first: date | str, last: date | str, zone: str) -> list[dict[str, object]]:
    parameters = {"site_uuid": "site", "date_from": str(first), "date_to": str(last), "timezone": zone}
    response = client.get(f"/v0/pipes/{pipe}.json", query_string=parameters)
    assert response.status_code == 200, response.get_json()
    rows: list[dict[str, object]] = response.get_json()["data"]
    return rows


def visits_by_date(client: FlaskClient, first: date | str, last: date | str, zone: str) -> list[tuple[object, object]]:
    return [(row["date"], row["visits"]) for row in query(client, "api_kpis", first, last, zone)]


def post_hits(client: FlaskClient, *moments: datetime) -> None:
    events = [hit_at(at, f"s{n}") for n, at in enumerate(moments)]
    response = client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(events))
    assert response.get_json() == {"successful_rows": len(moments), "quarantined_rows": 0}


def test_the_time_zone_data_holds_the_skipped_days_of_the_date_line() -> None:
    known = {("Pacific/Apia", date(2011, 12, 30)), ("Pacific/Kwajalein", date(1993, 8, 21))}
    assert known | {("Pacific/Kiritimati", date(1994, 12, 31))} <= set(SKIPPED_DAYS)


@pytest.mark.parametrize(("zone", "day"), SKIPPED_DAYS, ids=[f"{zone}-{day}" for zone, day in SKIPPED_DAYS])
def test_a_skipped_day_has_no_hours_and_its_neighbours_count_once(client: FlaskClient, zone: str, day: date) -> None:
    noons = [datetime.combine(day + n * DAY, time(12), ZoneInfo(zone)).astimezone(UTC) for n in (-1, 1)]
    # The last hour before the skip, and the first after it.
    skip = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
    post_hits(client, *noons, skip - timedelta(minutes=1), skip)
    assert visits_by_date(client, day, day, zone) == []
    assert visits_by_date(client, day - DAY, day + DAY, zone) == [
        (f"{day - DAY}", 2),
        (f"{day}", 0),
        (f"{day + DAY}", 2),
    ]
    for neighbour in (day - DAY, day + DAY):
        rows = visits_by_date(client, neighbour, neighbour, zone)
        assert 23 <= len(rows) <= 25
        assert sum(int(str(visits)) for _, visits in rows) == 2
    assert query(client, "api_top_pages", day, day, zone) == []
    assert query(client, "api_top_pages", day, day + DAY, zone) == [{"post_uuid": "", "pathname": "/", "visits": 2}]


URL = "/v0/pipes/{}.json?site_uuid=site&date_from=2026-11-22&date_to=2026-11-22&post_uuids="


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FlaskClient, dict[str, object]]]:
    """Return a client of a store with a hit on each side of midnight in UTC, and each pipe's rows without a zone."""
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("store")), clock=Clock())
    client = app.test_client()
    post_hits(client, datetime(2026, 11, 21, 23, 59, tzinfo=UTC), datetime(2026, 11, 22, 0, 0, tzinfo=UTC))
    yield client, {pipe: client.get(URL.format(pipe)).get_json()["data"] for pipe in ENDPOINTS}
    app.extensions["store"].close()


@pytest.mark.parametrize(
    "zone",
    ["", "Etc/Unknown", "Mars/Olympus", "../../etc/passwd", "\0", "Europe", "zone.tab", "+25:00", "+05:75", "x" * 5_000,
     "+", "5", "right/Europe/Berlin", "localtime", "Etc/GMT+99", "٣"],
)  # fmt: skip
def test_an_unknown_zone_is_utc_in_every_pipe(two_days: tuple[FlaskClient, dict[str, object]], zone: str) -> None:
    client, rows_in_utc = two_days
    for pipe, rows in rows_in_utc.items():
        response = client.post(URL.format(pipe), json={"timezone": zone})
        assert (pipe, response.status_code, response.get_json().get("data")) == (pipe, 200, rows)


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("+05:30", timedelta(hours=5, minutes=30)),
        ("+0530", timedelta(hours=5, minutes=30)),
        ("+5", timedelta(hours=5)),
        ("-0800", timedelta(hours=-8)),
        ("-08", timedelta(hours=-8)),
        ("\N{MINUS SIGN}08:00", timedelta(hours=-8)),
        (" 05:30", timedelta(hours=5, minutes=30)),
        ("UTC+3", timedelta(hours=3)),
        ("utc+03:00", timedelta(hours=3)),
        ("GMT-2", timedelta(hours=-2)),
        ("GMT-0330", timedelta(hours=-3, minutes=-30)),
        ("Etc/GMT+5", timedelta(hours=-5)),
        ("+05:20", timedelta(hours=5, minutes=20)),
        ("-00:44", timedelta(minutes=-44)),
        ("+14:00", timedelta(hours=14)),
        ("EUROPE/BERLIN", timedelta(hours=1)),
        ("UTC", timedelta(0)),
        ("Z", timedelta(0)),
        ("+00:00", timedelta(0)),
    ],
)
def test_an_offset_and_a_name_in_any_case_are_themselves(client: FlaskClient, zone: str, offset: timedelta) -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC) - offset
    minute = timedelta(minutes=1)
    # One hit on the first minute of the day, one on the last of its first hour, and neighbours of both.
    post_hits(client, midnight - minute, midnight, midnight + 59 * minute, midnight + 60 * minute)
    rows = visits_by_date(client, "2026-11-22", "2026-11-22", zone)
    # The clock of the tests stands at 12:30 UTC on this day.
    assert rows[:2] == [("2026-11-22 00:00:00", 2), ("2026-11-22 01:00:00", 1)]
    assert visits_by_date(client, "2026-11-21", "2026-11-22", zone) == [("2026-11-21", 1), ("2026-11-22", 3)]
    assert sum(int(str(row["visits"])) for row in query(client, "api_top_pages", "2026-11-22", "2026-11-22", zone)) == 3
    parameters = {"date_from": "2026-11-21", "date_to": "2026-11-22", "timezone": zone, "pathname": "/"}
    by_hit = client.post("/v0/pipes/api_kpis.json?site_uuid=site", json=parameters)
    assert [row["pageviews"] for row in by_hit.get_json()["data"]] == [1, 3]


def test_zones_are_those_of_the_package_and_not_the_systems(client: FlaskClient, tmp_path: Path) -> None:
    wrong = files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Vaduz").write_bytes(wrong)
    post_hits(client, datetime(2026, 11, 21, 22, 59, tzinfo=UTC), datetime(2026, 11, 21, 23, 0, tzinfo=UTC))
    path = zoneinfo.TZPATH
    zoneinfo.reset_tzpath((tmp_path,))
    try:
        assert ZoneInfo("Europe/Vaduz").utcoffset(datetime(2026, 11, 21)) == timedelta(hours=9)  # noqa: DTZ001
        rows = visits_by_date(client, "2026-11-21", "2026-11-22", "Europe/Vaduz")
    finally:
        zoneinfo.reset_tzpath(path)
        ZoneInfo.clear_cache(only_keys=["Europe/Vaduz"])
    assert rows == [("2026-11-21", 1), ("2026-11-22", 1)]


def test_hours_begin_on_a_quarter_of_an_hour_in_every_zone_since_1980() -> None:
    for name in available_timezones():
        zone = ZoneInfo(name)
        offsets = {zone.utcoffset(datetime(1980, 1, 2) + timedelta(weeks=5 * n)) for n in range(600)}  # noqa: DTZ001
        assert all(offset is not None and not offset % timedelta(minutes=15) for offset in offsets), name
