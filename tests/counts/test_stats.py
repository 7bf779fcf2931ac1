"""Ask `stats` what became of the hits, in one process."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import timedelta
from typing import Any

import pytest

from tests.support.app import NOW, OTHER_SITE, SITE, page_hit
from traffic_analytics.counts.file import DAYS, SITES, UNSERVED_SITES, CountFile, fold
from traffic_analytics.counts.recorder import INTERVAL, Recorder
from traffic_analytics.counts.tally import LARGEST, Kind, Tally
from traffic_analytics.errors import InvalidHit, SaltUnavailable
from traffic_analytics.hits.outcomes import Counted

BOT = {"User-Agent": "Googlebot/2.1"}


def record(service: Any) -> None:
    """Do what the chore of a worker process does every few seconds."""
    chores = service.app.extensions["traffic_analytics"]._chores
    next(tick for name, tick, _finish in chores if name == "counts")()


def stats(service: Any, *options: str) -> Any:
    record(service)
    result = service.app.test_cli_runner().invoke(args=["stats", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.output) if "--json" in options else result.output


def listed(rows: list[dict[str, Any]]) -> dict[tuple[str | None, str, str | None], int]:
    return {(row["site"], row["outcome"], row["rule"]): row["hits"] for row in rows}


def test_every_outcome_is_shown_by_site_and_rule(start: Any) -> None:
    service = start(IGNORE_ADDRESSES="203.0.113.7", IGNORE_PATHS="/p/*")
    service.hit()
    service.hit(headers={"x-site-uuid": SITE.upper()})
    service.hit(headers={"x-site-uuid": OTHER_SITE})
    service.hit(headers=BOT)
    service.hit(headers={"X-Forwarded-For": "203.0.113.7"})
    service.hit(page_hit(pathname="/p/1/"))
    service.hit(page_hit(parsedReferrer={"url": "https://semalt.com/"}))
    service.hit(page_hit(pathname=" "))
    service.hit(b"x" * 20_481)
    service.hit(headers={"x-site-uuid": "no UUID"})

    shown = stats(service, "--json")

    assert shown["day"] == "2026-11-22"
    assert listed(shown["start"]) == {
        (SITE, "accepted", None): 2,
        (SITE, "bot", None): 1,
        (SITE, "ignored", "address"): 1,
        (SITE, "ignored", "path"): 1,
        (SITE, "spam", None): 1,
        (SITE, "invalid", "body.payload.pathname"): 1,
        (SITE, "refused", "too_large"): 1,
        (OTHER_SITE, "accepted", None): 1,
        (None, "invalid", "headers.x-site-uuid"): 1,
    }
    assert shown["today"] == shown["start"]
    lines = [line.split() for line in stats(service).splitlines()]
    assert ["site", "accepted", "bots", "ignored", "spam", "refused", "failed"] in lines
    assert [SITE, "2", "1", "2", "1", "2", "0"] in lines
    assert ["all", "other", "sites", "0", "0", "0", "0", "1", "0"] in lines
    assert ["total", "3", "1", "2", "1", "3", "0"] in lines
    assert "by rule: ignored address 1" in stats(service)
    assert "refused too_large 1" in stats(service)


def test_a_site_that_is_not_allowed_is_named(start: Any) -> None:
    service = start(ALLOWED_SITES=OTHER_SITE)
    assert service.hit().status_code == 403

    assert listed(stats(service, "--json")["today"]) == {(SITE, "refused", "site"): 1}


def test_today_begins_at_midnight_utc_and_the_start_does_not(service: Any) -> None:
    service.hit()
    record(service)
    service.now += timedelta(hours=12)
    record(service)
    service.hit()

    shown = stats(service, "--json")

    assert shown["day"] == "2026-11-23"
    assert listed(shown["today"]) == {(SITE, "accepted", None): 1}
    assert listed(shown["start"]) == {(SITE, "accepted", None): 2}


def test_without_hits_it_says_so(service: Any) -> None:
    assert stats(service).count("  no hits\n") == 2


def test_a_new_start_begins_anew_but_the_day_goes_on(service: Any, start: Any) -> None:
    service.hit()
    record(service)
    service.app.extensions["traffic_analytics_counts"].begin(NOW)

    shown = stats(service, "--json")

    assert (shown["started"], shown["start"]) == ("2026-11-22T12:30:15Z", [])
    assert listed(shown["today"]) == {(SITE, "accepted", None): 1}


def test_another_command_does_not_begin_anew(service: Any, start: Any) -> None:
    service.app.extensions["traffic_analytics_counts"].begin(NOW)
    service.hit()
    record(service)

    assert listed(stats(start(), "--json")["start"]) == {(SITE, "accepted", None): 1}


@pytest.mark.parametrize("damage", [b"", b"x" * 50, b"x" * 9000], ids=["empty", "short", "long"])
def test_a_damaged_file_begins_anew_and_stops_nothing(damage: bytes, start: Any, log: Any) -> None:
    service = start()
    service.hit()
    record(service)
    for file in service.data_dir.glob("counts.sqlite3*"):
        file.unlink()
    (service.data_dir / "counts.sqlite3").write_bytes(damage)
    again = start()

    again.hit()

    assert listed(stats(again, "--json")["start"]) == {(SITE, "accepted", None): 1}
    assert "CountsLost" in log.text or not damage


def test_the_database_of_another_program_stays_as_it_is(start: Any, tmp_path: Any, log: Any) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "counts.sqlite3")) as other, other:
        other.execute("CREATE TABLE start (ours TEXT)")
        other.execute("INSERT INTO start VALUES ('kept')")
    service = start()

    assert service.hit().status_code == 202
    record(service)

    with contextlib.closing(sqlite3.connect(tmp_path / "counts.sqlite3")) as other:
        assert other.execute("SELECT ours FROM start").fetchall() == [("kept",)]
    assert "CountsUnavailable" in log.text


def test_a_file_that_cannot_be_made_stops_nothing(start: Any, tmp_path: Any, log: Any) -> None:
    (tmp_path / "counts.sqlite3").mkdir()
    service = start()

    assert service.hit().status_code == 202
    record(service)
    result = service.app.test_cli_runner().invoke(args=["stats"])

    assert result.exit_code == 1
    assert "the counts cannot be read" in result.output
    assert "CountsUnavailable" in log.text


def test_counts_that_cannot_be_written_are_written_later(start: Any, log: Any) -> None:
    service = start()
    service.hit()
    other = sqlite3.connect(service.data_dir / "counts.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    record(service)
    assert "CountsDelayed" in log.text
    other.execute("COMMIT")
    other.close()

    assert listed(stats(service, "--json")["today"]) == {(SITE, "accepted", None): 1}


def test_the_file_holds_nothing_of_a_visitor(service: Any) -> None:
    service.hit(page_hit(pathname="/secret-path/"), headers={"X-Forwarded-For": "203.0.113.7"})
    record(service)
    content = b"".join(each.read_bytes() for each in service.data_dir.glob("counts.sqlite3*"))

    assert SITE.encode() in content
    for text in (b"203.0.113", b"Firefox", b"secret-path", b"blog.example"):
        assert text not in content
    assert (service.data_dir / "counts.sqlite3").stat().st_mode & 0o777 == 0o600


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def test_sites_beyond_the_limit_are_counted_together() -> None:
    known = {uuid(n): 1 for n in range(SITES - 1)} | {"": 0}
    numbers = {Kind(uuid(n), "accepted", ""): 2 for n in range(SITES - 2, SITES + 3)}

    folded = fold(numbers, known)

    assert folded == {
        Kind(uuid(SITES - 2), "accepted", ""): 2,
        Kind(uuid(SITES - 1), "accepted", ""): 2,
        Kind("", "accepted", ""): 6,
    }


def test_invented_sites_take_no_room_from_sites_with_accepted_hits() -> None:
    invented = {Kind(uuid(n), "refused", "site"): 1 for n in range(UNSERVED_SITES + 50)}
    served = {Kind(uuid(10_000 + n), "accepted", ""): 1 for n in range(50)}

    folded = fold(invented | served, {})

    assert {kind: folded.get(kind) for kind in served} == served
    assert folded[Kind("", "refused", "site")] == 50
    assert len(folded) == UNSERVED_SITES + 50 + 1


def test_a_site_is_no_longer_unserved_with_its_first_accepted_hit() -> None:
    known = {uuid(n): 0 for n in range(UNSERVED_SITES)}
    numbers = {Kind(uuid(0), "accepted", ""): 1, Kind(uuid(500), "bot", ""): 1}

    assert fold(numbers, known) == numbers


@pytest.mark.parametrize("site", ["x" * 36, "940b73e9-4952-4752-b23d-9486f999c47g", "\u2028" * 36])
def test_what_is_no_uuid_is_no_site(site: str) -> None:
    assert fold({Kind(site, "invalid", "headers.x-site-uuid"): 1}, {}) == {
        Kind("", "invalid", "headers.x-site-uuid"): 1
    }


def test_a_process_holds_a_bounded_number_of_counts() -> None:
    tally = Tally()
    for n in range(LARGEST + 10):
        tally("failed", error=SaltUnavailable("from this test"), site=uuid(n))
    tally("failed", error=SaltUnavailable("from this test"), site=uuid(0))
    tally("failed", error=InvalidHit("body.evil", "x"), site="x" * 16_000)

    numbers = tally.take()

    assert len(numbers) == LARGEST + 2
    assert numbers[Kind("", "unavailable", "salt")] == 10
    assert numbers[Kind(uuid(0), "unavailable", "salt")] == 2
    assert numbers[Kind("", "invalid", "other")] == 1
    assert tally.take() == {}


def test_days_that_are_over_are_deleted(tmp_path: Any) -> None:
    file = CountFile(tmp_path / "counts.sqlite3")
    file.prepare()
    tally, now = Tally(), NOW
    recorder = Recorder(tally, file, lambda: now)
    for _ in range(DAYS + 2):
        tally("delivered", site=SITE)
        recorder.tick()
        now += timedelta(days=1)
        recorder.tick()
    now -= timedelta(days=1)

    def number(days_ago: int) -> Any:
        return file.read((now - timedelta(days=days_ago)).date()).today.get(SITE)

    assert [number(ago) for ago in (0, DAYS - 1, DAYS, DAYS + 1)] == [{Counted("accepted"): 1}] * 2 + [None] * 2
    assert file.read(now.date()).since_start[SITE] == {Counted("accepted"): DAYS + 2}


def test_counts_are_written_at_midnight() -> None:
    tally = Tally()
    recorder = Recorder(tally, None, lambda: NOW.replace(hour=23, minute=59, second=59, microsecond=0))  # type: ignore[arg-type]
    assert recorder.tick() == 1.0
    assert Recorder(tally, None, lambda: NOW).tick() == INTERVAL  # type: ignore[arg-type]
