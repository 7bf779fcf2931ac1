"""Manage single sites and the quarantine, over HTTP and the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from analytics_store.errors import UnavailableError
from analytics_store.maintenance import delete_expired
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.app import OTHER_SITE, SITE
from tests.support.store import NOW, Clock, hit, ndjson
from traffic_analytics.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

EVENTS = "/v0/events?name=analytics_events&wait=true"
ADMIN = "an-admin-token-that-only-these-tests-know"


def hit_of(site: str, at: str = "2026-11-22T10:00:00.000Z", session: str = "s", **payload: Any) -> dict[str, Any]:
    fields = {"site_uuid": site, "href": f"https://{site[:4]}.example/a"} | payload
    return hit(timestamp=at, session_id=session, payload=fields)


def run(app: Flask, *arguments: str, text: str | None = None) -> Any:
    return app.test_cli_runner().invoke(args=["store", *arguments], input=text)


@pytest.fixture
def two_sites(client: FlaskClient) -> FlaskClient:
    """A store with three hits of two sites, a test event and a row of automations of each, and a row in quarantine."""
    rows = [
        hit_of(SITE, "2026-11-20T10:00:00.000Z", "a"),
        hit_of(SITE.upper(), "2026-11-21T10:00:00.000Z", "b"),
        hit_of(SITE, "2026-11-22T10:00:00.000Z", "a", pathname="/secret-of-the-site"),
        *(hit_of(OTHER_SITE, f"2026-11-2{day}T11:00:00.000Z", f"c{day}") for day in range(3)),
    ]
    client.post(EVENTS, data=ndjson(rows))
    for site in (SITE, OTHER_SITE):
        client.post("/v0/events?name=analytics_events_test", json=hit_of(site))
        run_of = {"id": "r", "site_uuid": site, "automation_id": "a", "created_at": "2026-11-22T10:00:00.000Z"}
        client.post(
            "/v0/events?name=automation_run_events",
            json={"id": "r", "site_uuid": site, "updated_at": "2026-11-22T10:00:00.000Z", "payload": run_of},
        )
        client.post(EVENTS, json=hit_of(site, "no time"))
    return client


def test_sites_are_listed_with_their_content(two_sites: FlaskClient, app: Flask) -> None:
    sites = {site["site_uuid"]: site for site in two_sites.get("/v0/store/sites").get_json()["sites"]}

    assert set(sites) == {SITE, SITE.upper(), OTHER_SITE}
    other = sites[OTHER_SITE]
    assert (other["host"], other["hits"], other["sessions"], other["other_rows"]) == ("4c1d.example", 3, 3, 2)
    assert (other["first_hit"], other["last_hit"]) == ("2026-11-20T11:00:00.000Z", "2026-11-22T11:00:00.000Z")
    in_use = two_sites.get("/v0/store/info").get_json()
    assert other["bytes_estimated"] == pytest.approx(
        (in_use["bytes_on_disk"] - in_use["bytes_free_in_file"]) / 2, rel=0.1
    )
    lines = run(app, "sites").output.splitlines()
    assert lines[0].startswith(f"{OTHER_SITE}  4c1d.example  3 hits  3 sessions  2026-11-20T11:00:00.000Z  ")
    assert json.loads(run(app, "sites", "--json").output)[0]["hits"] == 3


def test_the_host_of_a_site_is_its_most_frequent_one_of_late(client: FlaskClient) -> None:
    rows = [hit_of(SITE, "2026-11-01T10:00:00.000Z", href="https://old.example/") for _ in range(5)]
    rows += [hit_of(SITE, href="https://Blog.example:8443/a?b#c") for _ in range(3)]
    rows += [hit_of(SITE, href="https://translate.example/x")]
    client.post(EVENTS, data=ndjson(rows))

    assert client.get("/v0/store/sites").get_json()["sites"][0]["host"] == "blog.example:8443"


@pytest.mark.parametrize("suffix", [".ndjson", ".parquet"])
def test_an_export_of_one_site_holds_its_rows_in_every_spelling(
    suffix: str, two_sites: FlaskClient, app: Flask, tmp_path: Path, clock: Clock
) -> None:
    file = tmp_path / f"site{suffix}"
    assert run(app, "export", "--site", SITE.upper(), str(file)).output == "rows: 3\n"

    other = create_app(Settings(bind="unix:/nowhere", data_dir=tmp_path / "other"), clock=clock)
    assert run(other, "import", str(file)).output == "new: 3\nalready there: 0\nquarantined: 0\n"
    assert {each["site_uuid"].lower() for each in other.extensions["store"].engine.sites()} == {SITE}
    other.extensions["store"].close()
    answer = two_sites.get(f"/v0/store/export?name=automation_run_events&site={OTHER_SITE}")
    assert (answer.headers["x-store-rows"], answer.data.count(b"\n")) == ("1", 1)
    assert OTHER_SITE.encode() in answer.data


def content(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())


def test_a_deleted_site_leaves_no_trace_in_the_files(
    two_sites: FlaskClient, app: Flask, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert b"secret-of-the-site" in content(settings.data_dir)

    assert run(app, "delete", SITE, "--yes").output == "hits deleted: 3\n"

    left = content(settings.data_dir)
    assert b"secret-of-the-site" not in left
    assert SITE.encode() not in left.lower()
    assert SITE not in capsys.readouterr().out.lower()
    (site,) = two_sites.get("/v0/store/sites").get_json()["sites"]
    assert (site["site_uuid"], site["hits"], site["other_rows"]) == (OTHER_SITE, 3, 2)
    assert len(two_sites.get("/v0/store/quarantine").get_json()["rows"]) == 1
    app.extensions["store"].close()
    assert b"secret-of-the-site" not in content(settings.data_dir)


def test_deleting_asks_first_and_an_unknown_site_deletes_nothing(two_sites: FlaskClient, app: Flask) -> None:
    assert run(app, "delete", SITE, text="n\n").exit_code == 1
    assert run(app, "delete", "00000000-0000-4000-8000-000000000000", "--yes").output == "hits deleted: 0\n"
    assert two_sites.get("/v0/store/info").get_json()["hits"] == 6


def test_a_deletion_whose_rewrite_fails_says_so_and_has_deleted_the_rows(
    two_sites: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise UnavailableError("no space left on device")

    engine = app.extensions["store"].engine
    monkeypatch.setattr(type(engine), "compact", lambda _engine: fail())

    result = run(app, "delete", SITE, "--yes")

    assert (result.exit_code, result.output) == (1, "Error: no space left on device\n")
    assert two_sites.get("/v0/store/info").get_json()["hits"] == 3


@pytest.mark.parametrize("site", ["blog.example", "", "940b73e9", f"{SITE},{OTHER_SITE}"])
def test_what_is_no_uuid_is_refused(site: str, app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    for arguments in (
        ("delete", site, "--yes"),
        ("token", site),
        ("export", "--site", site, str(tmp_path / "x.ndjson")),
    ):
        result = run(app, *arguments)
        assert (result.exit_code, "must be the UUID of a site" in result.output) == (2, True)
    assert client.get(f"/v0/store/export?name=analytics_events&site={site}").status_code == 400
    assert client.delete(f"/v0/store/sites/{site or 'x'}").status_code == 400


@pytest.mark.parametrize(
    ("retention", "of_sites", "left"),
    [
        (None, {SITE: 1}, {SITE: 1, OTHER_SITE: 3}),
        (1, {SITE: 30}, {SITE: 3, OTHER_SITE: 2}),
        (2, {SITE: 1, OTHER_SITE: 30}, {SITE: 1, OTHER_SITE: 3}),
        (30, {}, {SITE: 3, OTHER_SITE: 3}),
        (1, {}, {SITE: 1, OTHER_SITE: 2}),
    ],
)
def test_a_site_may_have_a_retention_of_its_own(
    retention: int | None, of_sites: dict[str, int], left: dict[str, int], tmp_path: Path, clock: Clock
) -> None:
    app = create_app(Settings(data_dir=tmp_path, retention_days=retention, site_retention_days=of_sites), clock=clock)
    rows = [
        hit_of(site, f"{NOW - timedelta(days=days, hours=hours):%Y-%m-%dT%H:%M:%S.000Z}", f"{days}")
        for site, hours in ((SITE, 1), (OTHER_SITE, -1))
        for days in range(3)
    ]
    app.test_client().post(EVENTS, data=ndjson(rows))

    deleted = delete_expired(app.extensions["store"])

    engine = app.extensions["store"].engine
    assert {site["site_uuid"]: site["hits"] for site in engine.sites()} == left
    assert deleted == 6 - sum(left.values())
    assert {site["site_uuid"]: site["sessions"] for site in engine.sites()} == left
    app.extensions["store"].close()


@pytest.mark.parametrize("text", [SITE, f"{SITE}=0", f"{SITE}=x", "blog=3", f"{SITE}=1,{OTHER_SITE}", ","])
def test_a_bad_retention_of_a_site_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STORE_SITE_RETENTION_DAYS: must be UUID=DAYS"):
        Settings.from_env({"STORE_SITE_RETENTION_DAYS": text})


def test_retentions_of_sites_are_read() -> None:
    settings = Settings.from_env({"STORE_SITE_RETENTION_DAYS": f" {SITE.upper()} = 30, {OTHER_SITE}=36500,"})
    assert dict(settings.site_retention_days or {}) == {SITE: 30, OTHER_SITE: 36_500}


def test_a_token_of_one_site_reads_that_site_only(tmp_path: Path, clock: Clock) -> None:
    settings = Settings(bind="unix:/nowhere", data_dir=tmp_path, admin_token=ADMIN)
    app = create_app(settings, clock=clock)
    client, admin = app.test_client(), {"Authorization": f"Bearer {ADMIN}"}
    client.post(EVENTS, data=ndjson([hit_of(SITE), hit_of(OTHER_SITE), hit_of(OTHER_SITE)]), headers=admin)

    token = run(app, "token", SITE.upper(), "--days", "2").output.strip()

    headers = {"Authorization": f"Bearer {token}"}

    def pageviews(**parameters: str) -> int:
        days = {"date_from": "2026-11-22", "date_to": "2026-11-22"}
        answer = client.get("/v0/pipes/api_kpis.json", query_string=parameters | days, headers=headers)
        return sum(row["pageviews"] for row in answer.get_json()["data"])

    assert pageviews() == pageviews(site_uuid=OTHER_SITE) == 1
    assert client.get("/v0/pipes/api_top_pages_v2.json", headers=headers).status_code == 200
    assert client.get("/v0/store/sites", headers=headers).status_code == 403
    assert client.post(EVENTS, json=hit_of(SITE), headers=headers).status_code == 403
    clock.now += 2 * 86_400
    assert client.get("/v0/pipes/api_kpis.json", headers=headers).status_code == 403
    app.extensions["store"].close()


def test_a_token_needs_the_admin_token(app: Flask) -> None:
    result = run(app, "token", SITE)
    assert (result.exit_code, result.output) == (1, "Error: STORE_ADMIN_TOKEN must be set: it signs the token\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v0/store/sites"),
        ("DELETE", f"/v0/store/sites/{SITE}"),
        ("GET", "/v0/store/quarantine"),
        ("POST", "/v0/store/quarantine/retry"),
        ("DELETE", "/v0/store/quarantine"),
    ],
)
@pytest.mark.parametrize("token", ["", "tracker-token", "stats-token"])
def test_other_tokens_manage_nothing(method: str, path: str, token: str, tmp_path: Path, clock: Clock) -> None:
    settings = Settings(data_dir=tmp_path, admin_token=ADMIN, tracker_token="tracker-token", stats_token="stats-token")
    app = create_app(settings, clock=clock)
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    assert app.test_client().open(path, method=method, headers=headers).status_code == 403


def quarantined(client: FlaskClient, *rows: bytes) -> list[dict[str, Any]]:
    client.post(EVENTS, data=b"\n".join(rows))
    found: list[dict[str, Any]] = client.get("/v0/store/quarantine").get_json()["rows"]
    return found


def test_rows_in_quarantine_are_listed_with_their_reasons(client: FlaskClient, app: Flask) -> None:
    quarantined(client, b"misfit", json.dumps(hit_of(SITE, "no time")).encode())

    lines = run(app, "quarantine", "list").output.splitlines()

    assert ["analytics_events", "6 B"] in [line.split("  ")[2:4] for line in lines]
    assert any(line.endswith("timestamp must be a date and time") for line in lines)
    assert "    misfit" in run(app, "quarantine", "list", "--rows").output.splitlines()


@pytest.mark.parametrize("choose", [lambda ids: ["--all"], lambda ids: ids], ids=["all", "by number"])
def test_rows_that_fit_by_now_leave_the_quarantine(
    choose: Callable[[list[str]], list[str]], client: FlaskClient, app: Flask
) -> None:
    from analytics_store.events import QuarantinedRow

    store = app.extensions["store"]
    good = json.dumps(hit_of(SITE)).encode()
    row = QuarantinedRow("analytics_events", good.decode(), "refused by an earlier version", store.now())
    store.engine.append([row], None)
    rows = quarantined(client, b"misfit")
    compacted = client.post("/v0/store/compact")
    assert compacted.status_code == 200

    result = run(app, "quarantine", "retry", *choose([row["id"] for row in rows]))

    assert result.output == "rows: 1\nquarantined: 1\n"
    assert client.get("/v0/store/info").get_json()["hits"] == 1
    (left,) = client.get("/v0/store/quarantine").get_json()["rows"]
    assert (left["row"], left["reason"]) == ("misfit", "not valid JSON in UTF-8")


def test_a_retry_names_its_rows(client: FlaskClient, app: Flask) -> None:
    rows = quarantined(client, b"one", b"two")

    assert run(app, "quarantine", "retry").exit_code == 2
    assert run(app, "quarantine", "retry", "--all", rows[0]["id"]).exit_code == 2
    unknown = run(app, "quarantine", "retry", "unknown")
    assert (unknown.exit_code, unknown.output.partition(";")[0]) == (1, "Error: no row has this number")


def test_a_purge_asks_first(client: FlaskClient, app: Flask) -> None:
    quarantined(client, b"one", b"two")

    assert run(app, "quarantine", "purge", text="n\n").exit_code == 1
    assert run(app, "quarantine", "purge", "--yes").output == "2 rows deleted\n"
    assert client.get("/v0/store/quarantine").get_json()["rows"] == []


def test_an_import_of_which_nothing_fits_fails(client: FlaskClient, app: Flask, tmp_path: Path) -> None:
    (tmp_path / "bad.ndjson").write_text("misfit\n{}\n")
    (tmp_path / "mixed.ndjson").write_bytes(b"misfit\n" + ndjson([hit_of(SITE)]))
    (tmp_path / "empty.ndjson").write_text("")

    bad = run(app, "import", str(tmp_path / "bad.ndjson"))

    assert bad.exit_code == 1
    assert bad.output.startswith("new: 0\nalready there: 0\nquarantined: 2\nError: no row of the file fits")
    assert run(app, "import", str(tmp_path / "mixed.ndjson")).exit_code == 0
    assert run(app, "import", str(tmp_path / "empty.ndjson")).exit_code == 0
