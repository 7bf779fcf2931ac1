from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import run
from traffic_analytics.delivery.spool import Spool


@pytest.fixture
def spool(service: Any) -> Any:
    return Spool(service.data_dir / "spool.sqlite3", sync="normal", max_mb=8, clock=service.now.timestamp)


@pytest.fixture
def aside(spool: Spool) -> list[int]:
    """Spool two dead letters and one waiting event."""
    for n in (1, 2, 3):
        spool.append("analytics_events", b'{"n":%d}' % n)
    claim = spool.claim(2, 10_000, 0.0)
    assert claim is not None
    for each in claim.events:
        spool.dead_letter(each, "status 400")
    spool.release(claim)
    return [each.id for each in claim.events]


def test_status_shows_how_many_events_wait_and_since_when(service: Any, aside: list[int]) -> None:
    result = run(service, "spool", "status").output

    assert "waiting    1\n" in result
    assert "oldest     2026-11-22T12:30:15Z" in result
    assert "set aside  2\n" in result


def test_list_shows_why_events_were_set_aside(service: Any, aside: list[int]) -> None:
    lines = run(service, "spool", "list").output.splitlines()

    assert [line.split()[0] for line in lines] == [str(each) for each in aside]
    assert all(line.endswith("analytics_events  7 B  status 400") for line in lines)
    assert len(run(service, "spool", "list", "--waiting").output.splitlines()) == 1


def test_export_writes_ndjson_that_can_be_posted(service: Any, aside: list[int], spool: Spool) -> None:
    assert run(service, "spool", "export").stdout == '{"n":1}\n{"n":2}\n'
    assert run(service, "spool", "export", "--waiting").stdout == '{"n":3}\n'
    assert run(service, "spool", "export", "--data-source", "analytics_events_test").stdout == ""
    assert spool.backlog().dead_letters == 2


def test_an_export_names_what_it_leaves_out(service: Any, aside: list[int], spool: Spool) -> None:
    assert run(service, "spool", "export").stderr == "left out: 1 events; --waiting exports them\n"
    assert "left out: 2 events; spool export without --waiting" in run(service, "spool", "export", "--waiting").stderr
    of_another = run(service, "spool", "export", "--data-source", "analytics_events_test").stderr
    assert "left out: 2 events; --data-source analytics_events exports them\n" in of_another
    run(service, "spool", "retry", "--all")
    assert run(service, "spool", "export", "--waiting").stderr == ""


def test_retry_queues_events_again(service: Any, aside: list[int], spool: Spool) -> None:
    assert "1 events wait again" in run(service, "spool", "retry", str(aside[1])).output
    assert [each.event for each in spool.list_dead_letters()] == [b'{"n":1}']
    assert "1 events wait again" in run(service, "spool", "retry", "--all").output
    assert spool.backlog().waiting == 3
    assert run(service, "spool", "retry").exit_code == 2


def test_purge_asks_first(service: Any, aside: list[int], spool: Spool) -> None:
    assert run(service, "spool", "purge").exit_code == 1
    assert spool.backlog().dead_letters == 2
    assert "2 events deleted" in run(service, "spool", "purge", "--yes").output
    assert (spool.backlog().dead_letters, spool.backlog().waiting) == (0, 1)


def test_without_a_token_there_is_no_spool_to_show(start: Any) -> None:
    result = run(start(TINYBIRD_TRACKER_TOKEN=""), "spool", "status")

    assert result.exit_code == 1
    assert "TINYBIRD_TRACKER_TOKEN" in result.output
