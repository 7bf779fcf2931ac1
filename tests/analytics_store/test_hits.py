"""An accepted row is written once, whatever fails between the journal and the tables."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import strategies

from analytics_store import cli, events
from analytics_store import hits as hits_module
from analytics_store import journal as journal_module
from analytics_store.columns import TEXTS
from analytics_store.errors import RefusedRowsError, UnavailableError
from analytics_store.events import Row
from analytics_store.settings import Settings
from analytics_store.store import Store
from analytics_store.wiring import create_app
from tests.support.processes import wait_until
from tests.support.store import NOW, Clock, hit, ndjson, read_log, start_logging

URL = "/v0/events?name=analytics_events"
WAIT = f"{URL}&wait=true"


@pytest.fixture
def store(app: Flask) -> Store:
    store: Store = app.extensions["store"]
    return store


def in_tables(store: Store) -> int:
    rows: int = store.engine.info()["hits"]
    return rows


def test_an_accepted_row_is_in_the_tables_soon(
    app: Flask, client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "SECONDS_BETWEEN", 0.01)
    assert client.post(URL, json=hit()).status_code == 202
    assert in_tables(store) == 0
    app.extensions["background"].start()
    wait_until(lambda: in_tables(store) == 1, 20)
    client.post(URL, json=hit())
    wait_until(lambda: in_tables(store) == 2, 20)
    app.extensions["background"].stop(timeout=30)


@pytest.mark.parametrize(
    "see",
    [
        lambda client: client.post(WAIT, json=hit(action="other")),
        lambda client: client.get("/v0/store/info"),
        lambda client: client.get("/v0/store/export?name=analytics_events").data,
        lambda client: client.post("/v0/store/compact"),
    ],
    ids=["wait", "info", "export", "compact"],
)
def test_requests_that_must_see_all_rows_write_them_first(
    client: FlaskClient, store: Store, see: Callable[[FlaskClient], object]
) -> None:
    for _ in range(3):
        client.post(URL, json=hit())
    assert in_tables(store) == 0
    see(client)
    assert in_tables(store) == 3


def test_rows_that_a_process_did_not_write_are_written_by_the_next_as_they_arrived(
    client: FlaskClient, store: Store, settings: Settings, clock: Clock
) -> None:
    bodies = [
        ndjson([hit(payload={"event_id": None}), hit()]) + b"{\n",
        json.dumps(hit(payload={"pathname": "/\n\0"}), indent=2).encode(),
        ndjson([hit(action="other")]),
    ]
    for body in bodies:
        client.post(URL, data=body)
        clock.now += 100
    store.engine.close()
    later = create_app(settings, clock=clock)
    facts = later.test_client().get("/v0/store/info").get_json()
    assert (facts["hits"], facts["rows_kept_whole"], facts["rows_in_quarantine"]) == (3, 1, 1)
    lines = later.test_client().get("/v0/store/export?name=analytics_events").data.splitlines()
    rows = [json.loads(line) for line in lines[:3]]
    assert [row["inserted_at"] for row in rows] == ["2026-11-22T12:30:00.000Z"] * 2 + ["2026-11-22T12:31:40.000Z"]
    assert rows[2]["payload"]["pathname"] == "/\n\0"
    later.extensions["store"].close()


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("event_id", [None, "an-id"])
def test_rows_are_written_once_when_it_is_unknown_if_a_transaction_was_committed(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch, committed: bool, event_id: str | None
) -> None:
    write = store.engine.append

    def fail(rows: list[Row], position: int | None) -> int:
        monkeypatch.setattr(store.engine, "append", write)
        if committed:
            write(rows, position)
        raise UnavailableError("the disk failed")

    client.post(URL, json=hit(payload={"event_id": event_id}))
    monkeypatch.setattr(store.engine, "append", fail)
    assert client.post(WAIT, json=hit()).status_code == 503
    assert in_tables(store) == (2 if committed else 0)
    assert client.get("/v0/store/info").get_json()["hits"] == 2


def test_a_repeat_counts_once_across_journal_tables_and_processes(
    client: FlaskClient, store: Store, settings: Settings, clock: Clock
) -> None:
    event, other = hit(), hit()
    client.post(URL, data=ndjson([event, other, event]))
    client.post(URL, json=event)
    client.post(WAIT, json=event)
    client.post(URL, json=event)
    client.post(URL, json=other)
    store.engine.close()
    later = create_app(settings, clock=clock)
    later.test_client().post(URL, json=other)
    assert later.test_client().get("/v0/store/info").get_json()["hits"] == 2
    later.extensions["store"].close()


def test_appends_are_accepted_during_maintenance_and_written_after_it(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(hits_module, "SECONDS_BETWEEN", 0.01)
    waited = hit()
    with store.hits.paused():
        assert client.post(URL, json=hit()).status_code == 202
        response = client.post(WAIT, json=waited)
        assert (response.status_code, "appear later" in response.get_json()["error"]) == (503, True)
        store.hits.apply_waiting()
        assert in_tables(store) == 0
    assert client.post(WAIT, json=waited).status_code == 200
    assert in_tables(store) == 2


def test_rows_beyond_those_in_memory_are_read_from_the_journal(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "ROWS_IN_MEMORY", 3)
    monkeypatch.setattr(hits_module, "ROWS_PER_COMMIT", 5)
    monkeypatch.setattr(journal_module, "FILE_BYTES", 1_000)
    commits: list[int] = []
    write = store.engine.append

    def count(rows: list[Row], position: int | None) -> int:
        commits.append(len(rows))
        return write(rows, position)

    monkeypatch.setattr(store.engine, "append", count)
    for _ in range(10):
        client.post(URL, data=ndjson([hit(), hit()]))
    assert sum(len(waiting.rows or ()) for waiting in store.hits._waiting) == 4
    assert store.hits.apply_waiting() == hits_module.SECONDS_BETWEEN
    assert (commits, in_tables(store)) == ([6, 6, 6, 2], 20)
    client.post(URL, json=hit())
    assert sum(len(waiting.rows or ()) for waiting in store.hits._waiting) == 1


def test_a_journal_that_cannot_be_written_is_503_and_nothing_is_stored(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post(WAIT, json=hit())
    monkeypatch.setattr(journal_module, "LIMIT", -1)
    for url in (URL, WAIT):
        response = client.post(url, json=hit())
        assert (response.status_code, "journal is full" in response.get_json()["error"]) == (503, True)
    monkeypatch.undo()
    assert client.get("/v0/store/info").get_json()["hits"] == 1
    assert client.post(WAIT, json=hit()).status_code == 200


def test_a_defect_while_the_journal_is_written_is_an_error_and_not_a_wait(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_batches: list[Any]) -> None:
        raise KeyError("secret-row")

    with monkeypatch.context() as patched:
        patched.setattr(store.hits._journal, "append", fail)
        assert client.post(URL, json=hit()).status_code == 500
    assert client.post(WAIT, json=hit()).status_code == 200


def test_retention_leaves_no_row_in_the_journal(client: FlaskClient, store: Store, settings: Settings) -> None:
    client.post(WAIT, json=hit())
    assert len(list((settings.data_dir / "journal").iterdir())) == 1
    with store.hits.paused():
        assert list((settings.data_dir / "journal").iterdir()) == []
    client.post(WAIT, json=hit())
    assert in_tables(store) == 2


def test_info_shows_what_waits_in_the_journal_and_lags_during_maintenance(
    client: FlaskClient, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits_module, "LONGEST_WAIT", 0.05)
    with store.hits.paused():
        client.post(URL, json=hit())
        clock.now += 7
        client.post(URL, json=hit())
        facts = client.get("/v0/store/info").get_json()
        assert (facts["hits"], facts["journal_seconds"], facts["journal_bytes"] > 200) == (0, 7.0, True)
    assert client.get("/v0/store/info").get_json()["hits"] == 2
    facts = client.get("/v0/store/info").get_json()
    assert (facts["journal_seconds"], facts["journal_bytes"]) == (0.0, 0)


def test_an_import_counts_rows_that_are_new_already_there_and_quarantined(
    app: Flask, client: FlaskClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "BODY_BYTES", 2_000)
    monkeypatch.setattr(cli, "CHUNK_BYTES", 300)
    monkeypatch.setattr(cli, "ROW_BYTES", 1_000)
    monkeypatch.setattr(events, "ROW_BYTES", 1_000)
    there, new = [hit() for _ in range(10)], [hit() for _ in range(30)]
    client.post(URL, data=ndjson(there))
    store.hits.apply()
    file = tmp_path / "rows.ndjson"
    long = ndjson([hit(payload={"pathname": "x" * 10_000})])
    file.write_bytes(ndjson(there) + b"\n \r\n{\n" + long + ndjson([*new, *new[:3]]) + ndjson([hit()]).rstrip())
    done = app.test_cli_runner().invoke(args=["store", "import", str(file)])
    assert done.output == "new: 31\nalready there: 13\nquarantined: 2\n"
    assert in_tables(store) == 41
    # Of rows in the journal that are not in the tables yet, the imported ones count.
    late = hit()
    client.post(URL, json=late)
    file.write_bytes(ndjson([late]))
    assert app.test_cli_runner().invoke(args=["store", "import", str(file)]).output.startswith("new: 1\n")
    store.hits.apply()
    assert in_tables(store) == 42


def test_an_import_of_an_unknown_data_source_is_400(client: FlaskClient) -> None:
    assert client.post("/v0/store/import?name=x", data=ndjson([hit()])).status_code == 400


def test_a_compacted_file_goes_on_at_the_same_position(
    client: FlaskClient, store: Store, settings: Settings, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    client.post(URL, json=hit(payload={"event_id": None}))
    client.post("/v0/store/compact")
    client.post(URL, json=hit(payload={"event_id": None}))
    store.engine.close()
    later = create_app(settings, clock=clock)
    assert later.test_client().get("/v0/store/info").get_json()["hits"] == 2
    later.extensions["store"].close()
    assert [record["event"] for record in read_log(capsys)] == ["StoreCompacted"]


TEXT = strategies.text(strategies.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = strategies.datetimes(datetime(1980, 1, 1), datetime(2299, 12, 30)).map(lambda at: f"{at.isoformat()}Z")  # noqa: DTZ001
EVENTS = strategies.fixed_dictionaries(
    {
        "timestamp": TIMES,
        "action": strategies.just("page_hit"),
        "session_id": TEXT.filter(bool),
        "version": TEXT,
        "inserted_at": TIMES,
        "payload": strategies.dictionaries(
            strategies.sampled_from([*TEXTS, "event_id", "referrerSource", "other"]), TEXT
        ),
    }
)


@hypothesis.settings(
    max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(strategies.lists(EVENTS, min_size=1, max_size=20))
def test_any_accepted_row_can_be_written_and_is_exported_as_it_was_sent(client: FlaskClient, rows: list[Any]) -> None:
    site = str(uuid4())
    for row in rows:
        row["payload"] |= {"site_uuid": site, "event_id": str(uuid4())}
    assert client.post(WAIT, data=ndjson(rows)).get_json() == {"successful_rows": len(rows), "quarantined_rows": 0}
    exported = map(json.loads, client.get("/v0/store/export?name=analytics_events").data.splitlines())
    found = {each["payload"]["event_id"]: each for each in exported if each["site_uuid"] == site}
    for row in rows:
        stored = found[row["payload"]["event_id"]]
        assert stored["timestamp"][:23] == f"{row['timestamp'].removesuffix('Z')}.000"[:23]
        assert (stored["session_id"], stored["version"]) == (row["session_id"], row["version"])
        for field, value in row["payload"].items():
            empty = "unknown" if field == "device" else None if field in TEXTS else ""
            assert stored["payload"][field] == (value or empty)


@pytest.mark.parametrize("change", [{"event_key": "no-uuid"}, {"received_at": "no-time"}, {"rest": None}])
def test_the_engine_tells_an_error_of_a_value_from_one_of_the_disk(store: Store, change: dict[str, Any]) -> None:
    (row,) = events.parse("analytics_events", [ndjson([hit()])], NOW.replace(tzinfo=None))
    for name, value in change.items():
        setattr(row, name, value)
    with pytest.raises(RefusedRowsError):
        store.engine.append([row], None)
    assert in_tables(store) == 0
