"""Count hits in several worker processes, across stops, kills and starts, and ask `stats` for the sums."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import OTHER_SITE, SITE
from tests.support.browsers import Browser, Load
from tests.support.processes import wait_until
from tests.support.running import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

pytestmark = pytest.mark.e2e


def counted(service: Service, period: str) -> dict[tuple[Any, ...], int]:
    rows = json.loads(service.command("stats", "--json"))[period]
    return {(row["site"], row["outcome"]): row["hits"] for row in rows}


def test_stats_sum_up_all_workers_while_they_run_and_after_they_are_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="false") as (service, _):
        with Load(service.port, 8, hits_each=25) as load:
            accepted = sum(each.accepted for each in load.wait())
        assert accepted == 200
        wait_until(lambda: counted(service, "start") == {(SITE, "accepted"): 200})

        before = service.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        wait_until(partial(lambda: len(service.workers()) == 2 and not set(service.workers()) & set(before)))
        with Load(service.port, 4, hits_each=5) as load:
            assert all(each.accepted for each in load.wait())
        wait_until(lambda: counted(service, "start") == {(SITE, "accepted"): 220})


def test_a_stop_loses_no_count_and_a_start_begins_anew(tmp_path: Path) -> None:
    with running(tmp_path / "data", ALLOWED_SITES=SITE) as (service, _):
        with Load(service.port, 2, hits_each=5) as load:
            load.wait()
        service.terminate()
        assert counted(service, "start") == {(SITE, "accepted"): 10}
        first = json.loads(service.command("stats", "--json"))["started"]

        service.start()
        assert counted(service, "start") == {}
        assert counted(service, "today") == {(SITE, "accepted"): 10}
        assert json.loads(service.command("stats", "--json"))["started"] >= first

        browser = Browser(service.port)
        assert browser.hit(site=OTHER_SITE).status == 403
        browser.close()
        service.terminate()
        assert counted(service, "start") == {(OTHER_SITE, "refused"): 1}
        service.start()
