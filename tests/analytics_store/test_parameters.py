import pytest
from flask.testing import FlaskClient

from tests.support.store import hit, ndjson, post_golden

SITE = "site_uuid=mock_site_uuid"
RANGE = f"{SITE}&date_from=2100-01-01&date_to=2100-01-07"


def query_pipe(client: FlaskClient, pipe: str, query: str) -> list[dict[str, object]]:
    response = client.get(f"/v0/pipes/{pipe}.json?{query}")
    assert response.status_code == 200, response.get_json()
    rows: list[dict[str, object]] = response.get_json()["data"]
    return rows


@pytest.mark.parametrize(
    ("pipe", "query", "name"),
    [
        ("api_kpis", "", "site_uuid"),
        ("api_kpis", "site_uuid=", "site_uuid"),
        ("api_kpis", f"{SITE}&date_from=2026-13-01", "date_from"),
        ("api_kpis", f"{SITE}&date_from=2026-W01-1", "date_from"),
        ("api_top_pages", f"{SITE}&date_to=tomorrow", "date_to"),
        ("api_top_pages", f"{SITE}&limit=-1", "limit"),
        ("api_top_pages", f"{SITE}&limit=%D9%A3", "limit"),
        ("api_top_sources", f"{SITE}&skip=1.5", "skip"),
        ("api_kpis", f"{SITE}&current_time=noon", "current_time"),
        ("api_post_visitor_counts", SITE, "post_uuids"),
        ("api_monitoring_ingestion", "start_date=x", "start_date"),
        ("api_gift_link_visits", f"{SITE}&date_from=x", "date_from"),
    ],
)
def test_a_missing_or_bad_parameter_is_400_and_named(client: FlaskClient, pipe: str, query: str, name: str) -> None:
    response = client.get(f"/v0/pipes/{pipe}.json?{query}")
    assert response.status_code == 400
    assert name in response.get_json()["error"]


def test_an_unknown_pipe_is_404_as_json(client: FlaskClient) -> None:
    response = client.get("/v0/pipes/api_nothing.json")
    assert (response.status_code, list(response.get_json())) == (404, ["error"])


@pytest.mark.parametrize("path", ["//v0/pipes", "/v0//pipes", "/v0/pipes//", "///v0///pipes/"])
def test_several_slashes_in_a_row_are_one(client: FlaskClient, path: str) -> None:
    called = {
        "PATH_INFO": f"{path}/api_kpis.json"
    }  # the test client reads a path that begins with two slashes as a host
    for method in ("GET", "POST", "OPTIONS"):
        response = client.open(f"/?{SITE}", method=method, environ_overrides=called)
        assert response.status_code == (204 if method == "OPTIONS" else 200)


def test_stray_parameters_are_ignored(client: FlaskClient) -> None:
    post_golden(client)
    plain = query_pipe(client, "api_top_sources", RANGE)
    assert (
        query_pipe(client, "api_top_sources", f"{RANGE}&ghost_client=admin&post_uuids=&nonsense[]=1&limit=50") == plain
    )


def test_a_stray_empty_post_uuid_is_no_error(client: FlaskClient) -> None:
    post_golden(client)
    for pipe in ("api_kpis", "api_top_sources", "api_active_visitors", "api_gift_link_visits"):
        query_pipe(client, pipe, f"{RANGE}&post_uuid=")
    query_pipe(client, "api_post_visitor_counts", f"{SITE}&post_uuids=&post_uuid=")
    query_pipe(client, "api_automation_browse_stats", f"{SITE}&post_uuid=")


def test_an_empty_source_means_direct_traffic(client: FlaskClient) -> None:
    post_golden(client)
    assert query_pipe(client, "api_top_sources", f"{RANGE}&source=") == [{"source": "", "visits": 7}]


def test_skip_and_limit_walk_through_a_list(client: FlaskClient) -> None:
    post_golden(client)
    everything = query_pipe(client, "api_top_sources", RANGE)
    assert query_pipe(client, "api_top_sources", f"{RANGE}&skip=2&limit=3") == everything[2:5]
    assert query_pipe(client, "api_top_sources", f"{RANGE}&limit=0") == []


def test_a_range_that_ends_before_it_begins_is_empty(client: FlaskClient) -> None:
    post_golden(client)
    assert query_pipe(client, "api_kpis", f"{SITE}&date_from=2100-01-07&date_to=2100-01-01") == []
    assert query_pipe(client, "api_top_pages", f"{SITE}&date_from=2100-01-07&date_to=2100-01-01") == []


def test_parameters_may_be_in_the_body_but_the_query_string_outranks_it(client: FlaskClient) -> None:
    post_golden(client)
    body = {"site_uuid": "mock_site_uuid", "date_from": "2100-01-01", "date_to": "2100-01-07", "source": "bing.com"}
    url = "/v0/pipes/api_top_sources.json"
    assert client.post(url, json=body).get_json()["data"] == [{"source": "bing.com", "visits": 2}]
    assert client.post(url, data=body).get_json()["data"] == [{"source": "bing.com", "visits": 2}]
    assert client.post(f"{url}?source=google.com", json=body).get_json()["data"] == [
        {"source": "google.com", "visits": 1}
    ]
    listed = client.post(url, json=body | {"source": "bing.com", "member_status": ["paid", "free"]})
    assert listed.get_json()["data"] == [{"source": "bing.com", "visits": 2}]
    for wrong in (b"{", b"[]", b'{"source": {}}'):
        assert client.post(url, data=wrong, content_type="application/json").status_code == 400


def test_a_response_names_its_columns_and_counts_its_rows(client: FlaskClient) -> None:
    post_golden(client)
    response = client.get(f"/v0/pipes/api_kpis.json?{RANGE}").get_json()
    assert [column["name"] for column in response["meta"]] == list(response["data"][0])
    assert response["meta"][1] == {"name": "visits", "type": "Int64"}
    assert response["rows"] == response["rows_before_limit_at_least"] == 7
    assert response["statistics"]["elapsed"] > 0
    assert response["statistics"]["rows_read"] > 0


@pytest.mark.parametrize(
    ("first", "last", "rows", "ends"),
    [
        ("2015-06-01", "2026-11-26", 4_197, ("2015-06-01", "2026-11-26")),
        ("1970-01-01", "2026-11-26", 20_784, ("1970-01-01", "2026-11-26")),
        ("0001-01-01", "9999-12-31", 120_530, ("1970-01-01", "2299-12-31")),
        ("1900-01-01", "1970-01-01", 1, ("1970-01-01", "1970-01-01")),
        ("0001-01-01", "0001-01-01", 0, ()),
        ("0001-01-01", "1969-12-31", 0, ()),
        ("2300-01-01", "9999-12-31", 0, ()),
        ("9999-12-31", "9999-12-31", 0, ()),
        ("9999-12-31", "0001-01-01", 0, ()),
    ],
)
def test_any_range_of_days_answers(
    client: FlaskClient, first: str, last: str, rows: int, ends: tuple[str, ...]
) -> None:
    client.post("/v0/events?name=analytics_events&wait=true", json=hit(payload={"gift_link": "g"}))
    is_in_range = first <= "2026-11-22" <= last
    for zone in ("Etc/UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
        query = f"site_uuid=site&date_from={first}&date_to={last}&start_date={first}&end_date={last}&timezone={zone}"
        chart = query_pipe(client, "api_kpis", query)
        assert [len(chart), *(row["date"] for row in chart[:1] + chart[-1:])] == [rows, *ends]
        assert sum(int(str(row["visits"])) for row in chart) == is_in_range
        for pipe in ("api_top_pages", "api_top_sources", "api_top_os", "api_gift_link_visits"):
            assert len(query_pipe(client, pipe, query)) == is_in_range
        query_pipe(client, "api_monitoring_ingestion", query)


def test_all_time_reaches_to_the_last_hit_that_is_accepted(client: FlaskClient) -> None:
    for at in ("1980-01-01T00:00:00.000Z", "2299-12-31T00:00:00.000Z"):
        client.post("/v0/events?name=analytics_events&wait=true", json=hit(timestamp=at, payload={"gift_link": at}))
    for zone in ("Etc/UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert len(query_pipe(client, "api_gift_link_visits", f"site_uuid=site&timezone={zone}")) == 2


def test_a_chart_of_three_centuries_counts_every_hit_on_its_day(client: FlaskClient) -> None:
    days = [f"{1980 + month // 12}-{1 + month % 12:02d}-01" for month in range(0, 319 * 12, 5)]
    events = [hit(session_id=day, timestamp=f"{day}T12:00:00.000Z") for day in days]
    client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(events))
    query = "site_uuid=site&date_from=1980-01-01&date_to=2299-01-01&pathname=/"
    rows = query_pipe(client, "api_kpis", query)
    assert (len(rows), rows[0]["date"], rows[-1]["date"]) == (116_514, "1980-01-01", "2299-01-01")
    assert [row["date"] for row in rows if row["visits"]] == days
    assert sum(int(str(row["pageviews"])) for row in rows) == len(days)


def test_only_two_equal_dates_ask_for_hours(client: FlaskClient) -> None:
    today = "2026-11-22"
    assert len(query_pipe(client, "api_kpis", f"{SITE}&date_from={today}&date_to={today}")) == 13
    assert [row["date"] for row in query_pipe(client, "api_kpis", f"{SITE}&date_from={today}")] == [today]


@pytest.mark.parametrize(
    ("day", "zone", "current_time", "hours"),
    [
        ("2026-11-20", "America/Los_Angeles", "2026-11-20 05:30:00", 6),
        ("2026-11-20", "Asia/Tokyo", "2026-11-20 23:59:59", 24),
        ("2026-11-20", "Asia/Tokyo", "2026-11-19 23:00:00", 24),
        ("2026-10-25", "Europe/Berlin", "2026-10-25 03:00:00", 5),
        ("2026-03-29", "Europe/Berlin", "2026-03-29 03:00:00", 3),
    ],
)
def test_current_time_is_the_clock_of_the_zone(
    client: FlaskClient, day: str, zone: str, current_time: str, hours: int
) -> None:
    query = f"{SITE}&date_from={day}&date_to={day}&timezone={zone}&current_time={current_time}"
    assert len(query_pipe(client, "api_kpis", query)) == hours


def test_current_time_moves_no_range_of_days(client: FlaskClient) -> None:
    rows = query_pipe(client, "api_kpis", f"{SITE}&current_time=2026-01-01 00:00:00")
    assert [rows[0]["date"], rows[-1]["date"]] == ["2026-11-15", "2026-11-22"]


def test_monitoring_goes_by_the_time_of_storage_and_leaves_out_hits_received_after_it(client: FlaskClient) -> None:
    def stored(day: int, at: str, received: str | None) -> dict[str, object]:
        return hit(
            timestamp=f"2026-11-{day}T10:00:00.000Z",
            inserted_at=f"2026-11-{at}Z",
            payload={"meta": {"received_timestamp": f"2026-11-{received}Z"}} if received else {},
        )

    events = [
        stored(18, "20T10:00:00.500", "20T10:00:00.000"),
        stored(19, "20T10:00:00.501", "20T10:00:00.000"),
        stored(20, "20T10:00:00.999", "20T10:00:01.000"),
        stored(20, "20T10:00:00.999", None),
        stored(20, "21T10:00:00.010", "21T10:00:00.010"),
    ]
    client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(events))
    query = "site_uuid=site&start_date=2026-11-20&end_date=2026-11-20"
    # A half is rounded to the even number, as ClickHouse does.
    row = {"site_uuid": "site", "total_events": 2, "min_latency_ms": 500, "max_latency_ms": 501}
    row |= {"avg_latency_ms": 500.0, "p50_latency_ms": 500.0, "p95_latency_ms": 501.0}
    assert query_pipe(client, "api_monitoring_ingestion", query) == [{"date": "2026-11-20", **row}]
    assert query_pipe(client, "api_monitoring_ingestion_aggregated", query) == [row]
    days = [row["date"] for row in query_pipe(client, "api_monitoring_ingestion", "site_uuid=site")]
    assert days == ["2026-11-21", "2026-11-20"]


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        ("2026-03-29", "Europe/Berlin", 23),
        ("2026-10-25", "Europe/Berlin", 25),
        ("2026-06-01", "Europe/Berlin", 24),
        ("2026-04-05", "Australia/Lord_Howe", 25),
        ("2026-10-04", "Australia/Lord_Howe", 24),
        ("2026-04-24", "Africa/Cairo", 23),
    ],
)
def test_a_day_has_the_hours_of_its_time_zone(client: FlaskClient, day: str, zone: str, hours: int) -> None:
    rows = query_pipe(client, "api_kpis", f"{SITE}&date_from={day}&date_to={day}&timezone={zone}")
    assert len(rows) == hours
    assert all(str(row["date"]).startswith(f"{day} ") for row in rows)


def test_without_dates_a_chart_shows_today_and_the_seven_days_before(client: FlaskClient) -> None:
    rows = query_pipe(client, "api_kpis", SITE)
    assert [rows[0]["date"], rows[-1]["date"], len(rows)] == ["2026-11-15", "2026-11-22", 8]


def test_probes_get_200(client: FlaskClient) -> None:
    assert client.get("/").status_code == 200
    assert client.get("/health").get_json()["status"] == "ok"
