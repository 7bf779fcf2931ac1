"""Hits make sessions, which the days of a query cut."""

import pytest
from flask.testing import FlaskClient

from tests.support.store import hit

URL = "/v0/events?name=analytics_events&wait=true"


def test_a_session_whose_first_hit_comes_last_takes_its_source_from_it(client: FlaskClient) -> None:
    late = hit(timestamp="2026-11-22T10:05:00.000Z", payload={"referrerSource": "late.example"})
    first = hit(payload={"referrerSource": "first.example"})
    client.post(URL, json=late)
    client.post(URL, json=first)
    rows = client.get("/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-11-22").get_json()["data"]
    assert rows == [{"source": "first.example", "visits": 1}]


def test_a_session_that_spans_a_day_counts_in_it_only_with_a_hit_in_it(client: FlaskClient) -> None:
    for session, days in (("throughout", (20, 21, 22)), ("away", (20, 22))):
        for day in days:
            client.post(URL, json=hit(session_id=session, timestamp=f"2026-11-{day}T10:00:00.000Z"))
    for name, of_source in (("api_top_sources", [{"source": "", "visits": 1}]), ("api_top_sources_v2", [])):
        url = f"/v0/pipes/{name}.json?site_uuid=site&date_from=2026-11-21&date_to=2026-11-21"
        assert client.get(url).get_json()["data"] == of_source
        assert client.get(f"{url}&source=").get_json()["data"] == of_source


def test_the_days_of_a_query_cut_a_session_and_v2_leaves_it_whole(client: FlaskClient) -> None:
    # Two hits before midnight in Los Angeles, three after it.
    stamps = ("21T07:58", "21T07:59", "21T08:01", "21T08:03", "21T08:04")
    sources = ("Google", "", "Bing", "", "")
    for stamp, source in zip(stamps, sources, strict=True):
        event = hit(timestamp=f"2026-11-{stamp}:00.000Z", payload={"referrerSource": source})
        assert client.post(URL, json=event).status_code == 200

    def ask(pipe: str, first: int, last: int) -> list[dict[str, object]]:
        days = f"date_from=2026-11-{first}&date_to=2026-11-{last}&timezone=America/Los_Angeles"
        rows: list[dict[str, object]] = client.get(f"/v0/pipes/{pipe}.json?site_uuid=site&{days}").get_json()["data"]
        return [row for row in rows if row["visits"]]

    evening = {"visits": 1, "pageviews": 2, "bounce_rate": 0.0, "avg_session_sec": 60.0}
    assert ask("api_kpis", 20, 20) == [{"date": "2026-11-20 23:00:00", **evening}]
    night = {"visits": 1, "pageviews": 3, "bounce_rate": 0.0, "avg_session_sec": 180.0}
    assert ask("api_kpis", 21, 22) == [{"date": "2026-11-21", **night}]
    both = {"visits": 1, "pageviews": 5, "bounce_rate": 0.0, "avg_session_sec": 360.0}
    assert ask("api_kpis", 20, 21) == [{"date": "2026-11-20", **both}]
    assert ask("api_kpis_v2", 20, 20) == [{"date": "2026-11-20 23:00:00", **both}]
    assert ask("api_kpis_v2", 21, 22) == []
    assert ask("api_top_sources", 21, 22) == [{"source": "Bing", "visits": 1}]
    assert ask("api_top_sources_v2", 21, 22) == []
    assert ask("api_top_sources_v2", 20, 22) == [{"source": "Google", "visits": 1}]


@pytest.mark.parametrize(("session_id", "sessions"), [("a" * 64, 2), ("A" * 64, 1), ("a session of another system", 1)])
@pytest.mark.parametrize("late", [True, False])
def test_a_session_lasts_as_long_as_its_session_id(
    client: FlaskClient, session_id: str, sessions: int, late: bool
) -> None:
    stamps = ["2025-11-22T10:00:00.000Z", "2026-11-22T10:00:00.000Z", "2026-11-28T10:00:00.000Z"]
    for stamp in reversed(stamps) if late else stamps:
        client.post(URL, json=hit(session_id=session_id, timestamp=stamp))
    assert client.get("/v0/store/info").get_json()["sessions"] == sessions
