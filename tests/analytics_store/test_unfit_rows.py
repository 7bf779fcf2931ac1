"""Rows that the engine cannot store together are written in halves, each once; one that never fits is set aside."""

import json
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import hits as hits_module
from analytics_store.errors import OverMemoryError, RefusedRowsError, StoreError, UnavailableError
from analytics_store.events import Hit, Row
from analytics_store.settings import Settings
from analytics_store.store import Store
from analytics_store.wiring import create_app
from tests.support.store import Clock, hit, ndjson, read_log, start_logging

URL = "/v0/events?name=analytics_events"
ERRORS = [OverMemoryError("more memory is needed"), RefusedRowsError("DuckDB refused a value")]
MEMORY_MB = 64

Append = Callable[[list[Row], int | None], int]


@pytest.fixture
def store(app: Flask) -> Store:
    store: Store = app.extensions["store"]
    return store


def numbered(numbers: range) -> bytes:
    """Return hits whose repeats count."""
    return ndjson([hit(session_id=str(number), payload={"event_id": None}) for number in numbers])


def session_ids(client: FlaskClient) -> list[str]:
    lines = client.get(f"/v0/store/export?{URL.partition('?')[2]}").data.splitlines()
    return sorted((json.loads(line)["session_id"] for line in lines), key=int)


def refuse(write: Append, error: StoreError, unfit: Callable[[list[Row]], bool]) -> Append:
    def append(rows: list[Row], position: int | None) -> int:
        if unfit(rows):
            raise error
        return write(rows, position)

    return append


def holds(session_id: str) -> Callable[[list[Row]], bool]:
    return lambda rows: any(isinstance(row, Hit) and row.session_id == session_id for row in rows)


@pytest.mark.parametrize("rows_in_memory", [hits_module.ROWS_IN_MEMORY, 0])
@pytest.mark.parametrize("error", ERRORS, ids=["memory", "value"])
@pytest.mark.parametrize("most", [1, 3, 8])
def test_rows_that_do_not_fit_together_are_written_in_parts_each_once(
    client: FlaskClient,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    error: StoreError,
    rows_in_memory: int,
) -> None:
    monkeypatch.setattr(hits_module, "ROWS_IN_MEMORY", rows_in_memory)
    for numbers in (range(2), range(2, 3), range(3, 20), range(20, 24)):
        assert client.post(URL, data=numbered(numbers)).status_code == 202
    monkeypatch.setattr(store.engine, "append", refuse(store.engine.append, error, lambda rows: len(rows) > most))
    assert session_ids(client) == [str(number) for number in range(24)]
    assert client.get("/v0/store/info").get_json()["rows_in_quarantine"] == 0


@pytest.mark.parametrize("commits", range(8))
def test_a_process_that_ends_between_two_parts_of_a_request_has_written_each_row_once(
    client: FlaskClient, store: Store, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    write, written = store.engine.append, 0

    def append(rows: list[Row], position: int | None) -> int:
        nonlocal written
        if len(rows) > 3:
            raise ERRORS[0]
        if written == commits:
            raise UnavailableError("the disk failed")
        written += 1
        return write(rows, position)

    for numbers in (range(2), range(2, 13), range(13, 16)):
        client.post(URL, data=numbered(numbers))
    monkeypatch.setattr(store.engine, "append", append)
    client.post(f"{URL}&wait=true", data=numbered(range(16, 17)))
    store.engine.close()
    later = create_app(settings, clock=clock)
    assert session_ids(later.test_client()) == [str(number) for number in range(17)]
    later.extensions["store"].close()


def test_a_single_row_that_the_engine_refuses_goes_to_quarantine(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    monkeypatch.setattr(store.engine, "append", refuse(store.engine.append, ERRORS[1], holds("5")))
    for numbers in (range(2), range(2, 9), range(9, 10)):
        client.post(URL, data=numbered(numbers))
    assert session_ids(client) == [str(number) for number in range(10) if number != 5]
    (row,) = client.get("/v0/store/quarantine").get_json()["rows"]
    assert (row["reason"], json.loads(row["row"])["session_id"]) == (str(ERRORS[1]), "5")
    (record,) = read_log(capsys)
    assert (record["event"], record["level"], record["rows"]) == ("RowsQuarantined", "error", 1)


def test_a_single_row_that_needs_too_much_memory_goes_to_quarantine_after_a_while(
    client: FlaskClient, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post(URL, data=numbered(range(9)))
    with monkeypatch.context() as patched:
        # Queries use all of the memory, and then no longer.
        patched.setattr(store.engine, "append", refuse(store.engine.append, ERRORS[0], holds("2")))
        assert client.post(f"{URL}&wait=true", data=numbered(range(9, 10))).status_code == 503
        clock.now += hits_module.PATIENCE - 1
        assert client.post(f"{URL}&wait=true", data=numbered(range(10, 11))).status_code == 503
        assert store.engine.info()["hits"] == 2
    assert len(session_ids(client)) == 11

    client.post(URL, data=numbered(range(11, 20)))
    monkeypatch.setattr(store.engine, "append", refuse(store.engine.append, ERRORS[0], holds("13")))
    assert client.post(f"{URL}&wait=true", data=numbered(range(20, 21))).status_code == 503
    clock.now += hits_module.PATIENCE
    assert session_ids(client) == [str(number) for number in range(21) if number != 13]
    (row,) = client.get("/v0/store/quarantine").get_json()["rows"]
    assert json.loads(row["row"])["session_id"] == "13"
