from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import SITE, Log
from tests.support.fresh_processes import PROCESSES, result_of
from tests.support.salts import SITES, TODAY, YESTERDAY, opened, read_files, refuse_new_site
from traffic_analytics.errors import DamagedFile, SaltUnavailable, TooManyNewSites
from traffic_analytics.runtime.sqlite_file import _APPLICATION_ID
from traffic_analytics.salts.new_sites import KNOWN_FOR
from traffic_analytics.salts.sqlite import STEP, SqliteSalts
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier, Event
    from pathlib import Path


def test_salts_are_not_guessable_from_their_site_and_day(tmp_path: Path) -> None:
    assert opened(tmp_path / "a").get_or_create(SITE, TODAY) != opened(tmp_path / "b").get_or_create(SITE, TODAY)


def test_salts_survive_a_restart(path: Path) -> None:
    before = opened(path).get_or_create(SITE, TODAY)

    assert opened(path).get_or_create(SITE, TODAY) == before


def test_a_site_is_known_for_some_days_after_its_last_salt(path: Path) -> None:
    store = opened(path)
    for site in SITES:
        store.get_or_create(site, TODAY - KNOWN_FOR)
    store.get_or_create(SITES[0], YESTERDAY)
    store.forget_before(TODAY)
    full = SqliteSalts(path, refuse_new_site)
    for site in SITES[:2]:
        full.get_or_create(site, TODAY)

    store.forget_before(TODAY + timedelta(days=1))
    for site in SITES[:2]:
        full.get_or_create(site, TODAY + timedelta(days=1))
    for site in (SITES[2], "invented"):
        with pytest.raises(TooManyNewSites):
            full.get_or_create(site, TODAY + timedelta(days=1))


def test_the_sites_of_a_file_of_the_first_version_are_known(path: Path) -> None:
    opened(path).get_or_create(SITE, YESTERDAY)
    with closing(sqlite3.connect(path)) as older:
        older.execute("DROP TABLE sites")
    full = SqliteSalts(path, refuse_new_site)

    full.prepare()
    full.forget_before(TODAY)
    full.get_or_create(SITE, TODAY)


def ask_after(barrier: Barrier, path: Path, answers: Any) -> None:
    """Race for ten files; a race for one may succeed by luck."""
    seen = []
    for number in range(10):
        barrier.wait(30)
        store = opened(path.with_name(f"{number}.sqlite3"))
        seen += [store.get_or_create(site, TODAY) for site in SITES]
    answers.put(seen)


def test_eight_processes_that_race_for_a_new_file_agree(path: Path) -> None:
    barrier, answers = PROCESSES.Barrier(8), PROCESSES.Queue()
    racers = [PROCESSES.Process(target=ask_after, args=[barrier, path, answers]) for _ in range(8)]
    for racer in racers:
        racer.start()
    seen = [tuple(answers.get(timeout=30)) for _ in racers]
    for racer in racers:
        racer.join(10)

    assert [racer.exitcode for racer in racers] == [0] * 8
    assert len(set(seen)) == 1
    assert len(set(seen[0])) == 10 * len(SITES)
    store = opened(path.with_name("9.sqlite3"))
    assert tuple(store.get_or_create(site, TODAY) for site in SITES) == seen[0][-len(SITES) :]


def keep_open(path: Path, ready: Event, done: Event) -> None:
    store = opened(path)
    store.get_or_create(SITE, TODAY)
    ready.set()
    done.wait(30)


@pytest.mark.parametrize("another_process", [False, True])
def test_a_deleted_salt_is_in_no_file_anymore(path: Path, another_process: bool) -> None:
    store = opened(path)
    salts = [store.get_or_create(site.replace("940b", f"{n:04x}"), YESTERDAY) for site in SITES for n in range(50)]
    kept = store.get_or_create(SITE, TODAY)
    ready, done = PROCESSES.Event(), PROCESSES.Event()
    other = PROCESSES.Process(target=keep_open, args=[path, ready, done])
    if another_process:
        other.start()
        assert ready.wait(30)
    assert salts[0].encode() in read_files(path.parent), "or this test looks in the wrong place"

    assert store.forget_before(TODAY) == len(salts)

    left = read_files(path.parent)
    done.set()
    if another_process:
        other.join(10)
    assert kept.encode() in left
    for salt in salts:
        assert salt.encode() not in left
        assert bytes.fromhex(salt) not in left


def test_a_deletion_that_a_reader_delays_is_reported_and_completed_later(path: Path) -> None:
    store = opened(path)
    salt = store.get_or_create(SITE, YESTERDAY)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM salts").fetchall()
        with pytest.raises(SaltUnavailable):
            store.forget_before(TODAY)

    store.forget_before(TODAY)
    assert salt.encode() not in read_files(path.parent)


def fill(store: SqliteSalts, day: date, count: int) -> None:
    """Create the salts of `count` sites of one day."""
    rows = [(day.isoformat(), f"site-{number:06}", f"{number:064x}") for number in range(count)]
    with store._file.lock, store._file.connection() as connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO salts VALUES (?, ?, ?)", rows)


def test_hits_are_accepted_while_many_salts_are_deleted(path: Path) -> None:
    other = opened(path)
    created: dict[str, str] = {}
    left: list[int] = []

    def accept_a_hit(seconds: float) -> None:
        site = f"new-{len(created)}"
        created[site] = other.get_or_create(site, TODAY)
        assert store.get_or_create(site, TODAY) == created[site]
        with closing(sqlite3.connect(path, timeout=0)) as another_process:
            left.append(another_process.execute("SELECT count(*) FROM salts WHERE day < ?", [str(TODAY)]).fetchone()[0])

    store = SqliteSalts(path, sleep=accept_a_hit)
    fill(other, YESTERDAY, 4 * STEP)

    assert store.forget_before(TODAY) == 4 * STEP

    assert left[:4] == [3 * STEP, 2 * STEP, STEP, 0]
    assert {site: other.get_or_create(site, TODAY) for site in created} == created


def test_the_file_is_shortened_after_many_salts_were_deleted(path: Path) -> None:
    store = opened(path)
    kept = store.get_or_create(SITE, TODAY)
    size = path.stat().st_size
    fill(store, YESTERDAY, 20_000)
    assert len(read_files(path.parent)) > 2_000_000

    store.forget_before(TODAY)

    assert path.stat().st_size <= size
    assert len(read_files(path.parent)) < 100_000
    assert store.get_or_create(SITE, TODAY) == kept


def test_a_file_of_version_0_1_0_is_shortened_too(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:  # as that version created it
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE salts (day TEXT NOT NULL, site_uuid TEXT NOT NULL, salt TEXT NOT NULL, "
            "PRIMARY KEY (day, site_uuid)) WITHOUT ROWID, STRICT"
        )
    store = opened(path)
    for _ in range(2):
        kept = store.get_or_create(SITE, TODAY)
        fill(store, YESTERDAY, 3 * STEP)

        assert store.forget_before(TODAY) == 3 * STEP
        assert len(read_files(path.parent)) < 100_000
        assert store.get_or_create(SITE, TODAY) == kept


def service(path: Path, **environment: str) -> Any:
    settings = {
        "PROXY_TARGET": "http://x",
        "REQUEST_TOKENS": "true",
        "DATA_DIR": str(path.parent),
        "SALT_STORE_TYPE": "sqlite",
        **environment,
    }
    return create_app(Settings.from_env(settings))


NODE_SALTS = json.dumps({"salt:2026-11-22:940b73e9": {"salt": "ab" * 32, "created_at": "2026-11-22T00:00:00Z"}})


def whole_database(path: Path) -> bytes:
    store = opened(path)
    for number in range(200):
        store.get_or_create(f"{SITE}-{number}", TODAY)
    del store  # closes the file
    data = path.read_bytes()
    path.unlink()
    return data


def foreign_database(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE posts (title TEXT)")
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"garbage, and not a little of it" * 100,
        lambda _: b"\0" * 8192,
        lambda _: NODE_SALTS.encode(),
        lambda path: whole_database(path)[:10_000],
        lambda path: whole_database(path)[:8192],
        lambda path: whole_database(path)[:50],
        lambda path: whole_database(path)[:4096] + b"\xaa" * 8192 + whole_database(path)[12_288:],
        foreign_database,
    ],
    ids=["garbage", "zeros", "json", "cut", "cut at a page", "cut in the header", "overwritten", "foreign"],
)
def test_a_damaged_file_stops_the_start_and_is_left_as_it_is(damage: Any, path: Path) -> None:
    path.parent.mkdir()
    data = damage(path)
    path.write_bytes(data)

    with pytest.raises(DamagedFile, match=r"salts\.sqlite3"):
        service(path)

    assert path.read_bytes() == data


def test_a_data_directory_that_cannot_be_created_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(DamagedFile, match="data"):
        service(tmp_path / "data" / "salts.sqlite3")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": "file"}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": ""}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": "file", "SALT_STORE_FILE_PATH": "elsewhere/own.db"}, "elsewhere/own.db"),
        ({"SALT_STORE_FILE_PATH": "elsewhere/own.db"}, "elsewhere/own.db"),
    ],
)
def test_salts_are_stored_where_the_settings_place_them(environment: dict[str, str], name: str, tmp_path: Path) -> None:
    if "SALT_STORE_FILE_PATH" in environment:
        environment = environment | {"SALT_STORE_FILE_PATH": str(tmp_path / environment["SALT_STORE_FILE_PATH"])}

    service(tmp_path / "data" / "unused", **environment)

    assert (tmp_path / name).read_bytes().startswith(b"SQLite format 3")
    assert len(list(tmp_path.rglob("salts*.sqlite3")) + list(tmp_path.rglob("*.db"))) == 1


def test_salts_in_memory_are_in_no_file(tmp_path: Path) -> None:
    service(tmp_path / "data" / "x", SALT_STORE_TYPE="memory")

    assert list(tmp_path.rglob("*salts*")) == []


def test_a_removed_file_is_not_replaced_by_a_new_one(path: Path, start: Any, log: Log) -> None:
    service = start(salts=SqliteSalts(path))
    assert service.hit().status_code == 202
    path.unlink()

    answer = service.hit(headers={"x-site-uuid": SITES[1]})

    assert answer.status_code == 503
    assert len(service.tinybird.request_history) == 1
    assert not path.exists()
    assert "SaltUnavailable" in log.text


def test_a_file_that_is_damaged_while_running_refuses_hits(path: Path, start: Any) -> None:
    service = start(salts=SqliteSalts(path))
    path.write_bytes(b"garbage" * 5000)

    assert service.hit().status_code == 503
    assert service.client.get("/ready").status_code == 503
    assert service.tinybird.request_history == []


def use_before_and_after_a_fork(path: Path, answers: Any) -> None:
    store = opened(path)
    before, inherited = store.get_or_create(SITE, TODAY), store._file._connection
    if child := os.fork():
        answers.put(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    same = store.get_or_create(SITE, TODAY) == before
    os._exit(0 if same and store._file._connection is not inherited else 1)


def test_a_process_made_by_fork_opens_a_connection_of_its_own(path: Path) -> None:
    assert result_of(use_before_and_after_a_fork, path) == 0


def test_a_file_that_was_cut_is_not_treated_as_new(tmp_path: Path) -> None:
    path = tmp_path / "salts.sqlite3"
    path.write_bytes(b"S")

    with pytest.raises(DamagedFile, match="cannot be used as a database: it has 1 bytes"):
        SqliteSalts(path).prepare()
    assert path.read_bytes() == b"S"


def test_an_empty_file_is_treated_as_new_with_a_warning(start: Any, tmp_path: Path, log: Any) -> None:
    path = tmp_path / "salts.sqlite3"
    path.touch()

    start(salts=SqliteSalts(path))

    assert [record["event"] for record in log.records] == ["EmptyFile"]
    SqliteSalts(path).get_or_create("site", date(2026, 11, 22))
