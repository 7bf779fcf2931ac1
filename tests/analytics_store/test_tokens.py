from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.app import OTHER_SITE, SITE
from tests.support.store import NOW, Clock, ndjson
from tests.support.tokens import ADMIN, CASES, PIPE, QUERY, Case, sign

MINE, OTHERS = SITE, OTHER_SITE
EXPIRY = int(NOW.timestamp()) + 3 * 3600
DATES = "date_from=2026-11-01&date_to=2026-11-30"


def event(site: str, pathname: str) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-22T10:00:00.000Z",
        "action": "page_hit",
        "version": "1",
        "session_id": pathname,
        "payload": {"site_uuid": site, "pathname": pathname, "post_uuid": "p", "gift_link": "g"},
    }


@contextmanager
def app_with_hits(data_dir: Path, clock: Clock) -> Iterator[Flask]:
    settings = Settings(data_dir=data_dir, admin_token=ADMIN, tracker_token="tracker", stats_token="stats")
    app = create_app(settings, clock=clock)
    rows = ndjson([event(MINE, "/mine/"), event(OTHERS, "/others/")])
    posted = app.test_client().post("/v0/events?name=analytics_events&wait=true", data=rows, headers=bearer("tracker"))
    assert posted.status_code == 200
    yield app
    app.extensions["store"].close()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> Iterator[Flask]:
    with app_with_hits(tmp_path, clock) as app:
        yield app


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """Return a client for tests that change nothing."""
    with app_with_hits(tmp_path_factory.mktemp("store"), Clock()) as app:
        yield app.test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims(*pipes: str, site: str | None = MINE, **changes: Any) -> dict[str, Any]:
    fixed = {} if site is None else {"fixed_params": {"site_uuid": site}}
    scopes = [{"type": "PIPES:READ", "resource": pipe, **fixed} for pipe in pipes or (PIPE,)]
    return {"workspace_id": "w", "name": f"tinybird-jwt-{site}", "exp": EXPIRY, "scopes": scopes} | changes


def test_ghosts_token_reads_the_pipe_it_names_in_both_versions(client: FlaskClient) -> None:
    for resource in (PIPE, f"{PIPE}_v2"):
        for name in (PIPE, f"{PIPE}_v2"):
            response = client.get(f"/v0/pipes/{name}.json?{DATES}", headers=bearer(sign(claims(resource))))
            assert [row["pathname"] for row in response.get_json()["data"]] == ["/mine/"]
    assert client.get(f"/v0/pipes/{PIPE}.json?{DATES}&token={sign(claims())}").status_code == 200


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_store_gives_each_token_its_verdict(reader: FlaskClient, case: Case) -> None:
    response = reader.get(f"/v0/pipes/{PIPE}.json?{QUERY}", headers=bearer(case.token))

    if case.site is None:
        assert (response.status_code, list(response.get_json())) == (403, ["error"])
    else:
        assert response.status_code == 200
        pathname = "/mine/" if case.site == MINE else "/others/"
        assert [row["pathname"] for row in response.get_json()["data"]] == [pathname]


@pytest.mark.parametrize("token", ["", "tracker", "STATS", "st\u00e4ts"])
def test_a_static_token_that_does_not_read_is_403(reader: FlaskClient, token: str) -> None:
    response = reader.get(f"/v0/pipes/{PIPE}.json", query_string={"site_uuid": MINE, "token": token})

    assert (response.status_code, list(response.get_json())) == (403, ["error"])


def test_an_expired_token_stops_working_as_the_clock_moves_on(client: FlaskClient, clock: Clock) -> None:
    url, headers = f"/v0/pipes/{PIPE}.json?{DATES}", bearer(sign(claims()))
    assert client.get(url, headers=headers).status_code == 200
    clock.now = EXPIRY
    assert client.get(url, headers=headers).status_code == 403


ATTEMPTS: list[tuple[str, dict[str, Any]]] = [
    (f"site_uuid={OTHERS}", {}),
    (f"site_uuid={MINE}&site_uuid={OTHERS}", {}),
    (f"site_uuid={OTHERS}&site_uuid={MINE}", {}),
    (f"site_uuid[]={OTHERS}&Site_UUID={OTHERS}&site_uuid%00={OTHERS}", {}),
    (f"site_uuid={OTHERS}%00{MINE}", {}),
    (f"site_uuid=%25&pathname=/others/' OR site_uuid='{OTHERS}", {}),
    ("", {"json": {"site_uuid": OTHERS}}),
    ("", {"json": {"site_uuid": [MINE, OTHERS]}}),
    ("", {"data": {"site_uuid": OTHERS}}),
    (f"site_uuid={OTHERS}", {"json": {"site_uuid": OTHERS, "fixed_params": {"site_uuid": OTHERS}}}),
    ("post_uuids=p&post_uuid=p&gift_link=g", {"json": {"site_uuid": OTHERS}}),
]


@pytest.mark.parametrize(("query", "body"), ATTEMPTS)
def test_a_publication_reads_its_own_numbers_with_any_parameters(
    reader: FlaskClient, query: str, body: dict[str, Any]
) -> None:
    pipes = (
        "api_kpis",
        PIPE,
        "api_top_sources",
        "api_top_locations",
        "api_active_visitors",
        "api_post_visitor_counts",
        "api_gift_link_visits",
        "api_monitoring_ingestion",
        "api_monitoring_ingestion_aggregated",
        "api_automation_browse_stats",
    )
    for pipe in pipes:
        headers = bearer(sign(claims(pipe)))
        url = f"/v0/pipes/{pipe}.json?{DATES}&start_date=2026-11-01&end_date=2026-11-30&post_uuids=p"
        plain = reader.get(f"{url}&{query}", headers=headers)
        for response in [plain] + ([reader.post(f"{url}&{query}", headers=headers, **body)] if body else []):
            assert OTHERS not in response.get_data(as_text=True)
            assert "/others/" not in response.get_data(as_text=True)
            if response.status_code == 200:
                counts = [row.get("visits", 0) for row in response.get_json()["data"]]
                assert sum(counts) <= 1


def test_a_second_token_in_the_query_grants_nothing_more(client: FlaskClient) -> None:
    mine, others = sign(claims()), sign(claims("api_kpis", site=OTHERS))
    response = client.get(f"/v0/pipes/{PIPE}.json?{DATES}&token={others}", headers=bearer(mine))
    assert [row["pathname"] for row in response.get_json()["data"]] == ["/mine/"]


def test_a_token_without_fixed_parameters_reads_every_site(client: FlaskClient) -> None:
    headers = bearer(sign(claims(site=None)))
    response = client.get(f"/v0/pipes/{PIPE}.json?{DATES}&site_uuid={OTHERS}", headers=headers)
    assert [row["pathname"] for row in response.get_json()["data"]] == ["/others/"]


@pytest.mark.parametrize(
    ("token", "append", "read", "administer"),
    [(ADMIN, 200, 200, 200), ("tracker", 200, 403, 403), ("stats", 403, 200, 403), (sign(claims()), 403, 200, 403)],
    ids=["admin", "tracker", "stats", "jwt"],
)
def test_each_token_may_do_what_it_was_made_for(
    client: FlaskClient, token: str, append: int, read: int, administer: int
) -> None:
    headers = bearer(token)
    posted = client.post("/v0/events?name=analytics_events&wait=true", json=event(MINE, "/"), headers=headers)
    assert posted.status_code == append
    assert client.get(f"/v0/pipes/{PIPE}.json?site_uuid={MINE}", headers=headers).status_code == read
    assert client.get("/v0/store/info", headers=headers).status_code == administer
    assert client.get("/v0/store/export?name=analytics_events", headers=headers).status_code == administer
    assert client.post("/v0/store/compact", headers=headers).status_code == administer


def test_without_configured_tokens_every_client_on_loopback_may_do_all(settings: Settings, clock: Clock) -> None:
    app = create_app(settings, clock=clock)
    client = app.test_client()
    assert client.post("/v0/events?name=analytics_events&wait=true", json=event(MINE, "/")).status_code == 200
    assert client.get(f"/v0/pipes/{PIPE}.json?site_uuid={MINE}").status_code == 200
    assert client.get("/v0/store/info").status_code == 200
    app.extensions["store"].close()


@pytest.mark.parametrize("secret", ["short", "p." + "a-long-admin-token" * 10])
def test_an_admin_token_of_any_length_signs(tmp_path: Path, clock: Clock, secret: str) -> None:
    app = create_app(Settings(data_dir=tmp_path / "store", admin_token=secret), clock=clock)
    response = app.test_client().get(f"/v0/pipes/{PIPE}.json", headers=bearer(sign(claims(), secret)))
    app.extensions["store"].close()
    assert response.status_code == 200
