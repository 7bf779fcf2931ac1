from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.gateway import ACTIVE, STATIC, ghost_token, rows
from tests.support.tokens import ADMIN
from traffic_analytics.statistics.answer_cache import FILE_BYTES, LARGEST, MEMORY_BYTES, AnswerCache, Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.app import Log
    from tests.support.gateway import Clock, OpenCache, StartGateway


def test_a_response_is_reused_for_the_configured_time_and_no_longer(gateway: StartGateway) -> None:
    dashboard = gateway(STATS_CACHE_SECONDS="90")
    dashboard.respond_with({"json": rows(1)}, {"json": rows(2)})

    first = dashboard.query()
    dashboard.advance(89)
    again = dashboard.query()
    dashboard.advance(1)
    renewed = dashboard.query()

    assert [a.json["data"][0]["active_visitors"] for a in (first, again, renewed)] == [1, 1, 2]
    assert [a.headers["age"] for a in (first, again, renewed)] == ["0", "89", "0"]
    assert "age" in again.headers["access-control-expose-headers"]
    assert len(dashboard.requests) == 2


def test_zero_seconds_disable_the_cache(gateway: StartGateway, tmp_path: Path) -> None:
    dashboard = gateway(STATS_CACHE_SECONDS="0")
    dashboard.respond_with({"json": rows(1)}, {"json": rows(2)}, {"status_code": 500})

    assert [dashboard.query().status_code for _ in range(3)] == [200, 200, 500]
    assert not (tmp_path / "statistics.sqlite3").exists()


def test_workers_share_responses_also_across_a_restart(gateway: StartGateway) -> None:
    gateway().query()

    second = gateway()
    second.respond_with(json=rows("newer"))
    second.advance(59)

    assert second.query().json == rows(1)


def test_a_response_of_one_target_is_not_reused_for_another(gateway: StartGateway) -> None:
    gateway().query()
    other = gateway(STATS_TARGET="http://other.example")
    other.respond_with(json=rows("other"))

    assert other.query().json == rows("other")


def test_the_file_holds_neither_tokens_nor_queries(gateway: StartGateway, tmp_path: Path) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    dashboard.query(f"{ACTIVE}?site_uuid={SITE}&pathname=/secret-page/", ghost_token())
    dashboard.query(f"{ACTIVE}?site_uuid={SITE}&pathname=/secret-page/", STATIC)

    content = b"".join(file.read_bytes() for file in tmp_path.glob("statistics.sqlite3*"))

    assert b"active_visitors" in content
    for word in (ghost_token(), STATIC, ADMIN, SITE, "secret-page"):
        assert word.encode() not in content


def test_a_response_that_is_too_large_is_returned_but_not_cached(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with(json=rows("x" * LARGEST))

    assert dashboard.query().json == dashboard.query().json
    assert len(dashboard.requests) == 2


def test_one_process_holds_a_claim_until_it_is_released_or_expires(cache: OpenCache, clock: Clock) -> None:
    mine, theirs = cache(), cache()

    assert mine.claim(b"k", 30)
    assert not theirs.claim(b"k", 30)
    assert theirs.claim(b"another", 30)
    mine.remove(b"k")
    assert theirs.claim(b"k", 30)
    clock.now += 30
    assert mine.claim(b"k", 30)


def test_the_file_is_bounded_and_the_oldest_entry_is_removed_first(
    cache: OpenCache, clock: Clock, tmp_path: Path
) -> None:
    one, body = cache(), b"x" * (LARGEST // 2)
    count = 2 * FILE_BYTES // LARGEST + 10
    for n in range(count):
        clock.now += 1
        one.put(b"%d" % n, Entry(clock.now, clock.now + 3600, 200, body))

    fresh = cache()
    assert fresh.get(b"%d" % (count - 1)) is not None
    assert fresh.get(b"0") is None
    with sqlite3.connect(tmp_path / "s.sqlite3") as connection:
        assert connection.execute("SELECT sum(length(body)) FROM kept").fetchone()[0] <= FILE_BYTES
    connection.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1.5 * FILE_BYTES


def test_memory_is_bounded_in_entries_however_small_they_are(clock: Clock) -> None:
    cache = AnswerCache(None, clock)
    for n in range(10_000):
        cache.put(b"%d" % n, Entry(clock.now, clock.now + 10, 403))

    assert sum(cache.get(b"%d" % n) is not None for n in range(10_000)) <= MEMORY_BYTES // 4096
    assert cache.get(b"9999") is not None


def test_refused_tokens_displace_no_response_from_the_file(gateway: StartGateway, tmp_path: Path) -> None:
    dashboard = gateway()
    dashboard.query()
    dashboard.respond_with(status_code=403, json={"error": "no such token"})
    for n in range(20):
        assert dashboard.query(ACTIVE, f"p.invented-{n}").status_code == 403

    with sqlite3.connect(tmp_path / "statistics.sqlite3") as connection:
        statuses = connection.execute("SELECT status FROM kept").fetchall()
    connection.close()
    assert statuses == [(200,)]


def test_no_entry_lives_longer_if_the_clock_is_set_back(cache: OpenCache, clock: Clock) -> None:
    mine, theirs = cache(), cache()
    mine.put(b"k", Entry(clock.now, clock.now + 3600, 200, b"{}"))
    mine.claim(b"c", 30)
    clock.now -= 100

    assert mine.get(b"k") is None
    assert theirs.get(b"k") is None
    assert theirs.claim(b"c", 30)


def test_an_unusable_file_costs_queries_but_no_responses(gateway: StartGateway, tmp_path: Path) -> None:
    dashboard = gateway()
    for file in tmp_path.glob("statistics.sqlite3*"):
        file.unlink()

    assert dashboard.query().status_code == 200
    assert dashboard.query().status_code == 200
    assert len(dashboard.requests) == 1


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5_000])


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"x" * 8_000)


def leave_the_log(file: Path) -> None:
    file.with_name(file.name + "-wal").write_bytes(b"x" * 5_000)
    file.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        overwrite,
        leave_the_log,
        lambda file: file.write_bytes(b"no database " * 100),
        lambda file: file.write_bytes(b"\0" * 50),
        lambda file: file.write_bytes(b"\0" * 8_192),
    ],
    ids=["cut", "overwritten", "log only", "text", "short", "zeros"],
)
def test_a_damaged_file_is_thrown_away_at_the_start(
    damage: Callable[[Path], object], gateway: StartGateway, tmp_path: Path, log: Log
) -> None:
    gateway().query()
    file = tmp_path / "statistics.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    damage(file)

    after = gateway()
    after.respond_with({"json": rows(2)}, {"json": rows(3)})

    assert after.query().json == rows(2)
    assert gateway().query().json == rows(2), "the new file is shared"
    (record,) = [each for each in log.records if each["event"] == "CacheDiscarded"]
    assert str(file) in record["message"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_not_the_caches_stays_and_memory_is_used(
    gateway: StartGateway, tmp_path: Path, log: Log
) -> None:
    file = tmp_path / "statistics.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE of_another_program (x)")
    connection.close()
    before = file.read_bytes()

    assert gateway().query().json == rows(1)
    assert file.read_bytes() == before
    file.unlink()
    file.mkdir()
    assert gateway().query().json == rows(1)

    assert [each["event"] for each in log.records].count("StatisticsCacheUnavailable") == 2
    assert file.is_dir()
