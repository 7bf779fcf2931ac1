"""Test what all stores of one process have in common."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.salts import SITES, TODAY, YESTERDAY, opened
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from pathlib import Path

    from traffic_analytics.salts.store import SaltStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> SaltStore:
    return MemorySalts() if request.param == "memory" else opened(path)


def test_a_site_has_one_salt_a_day(store: SaltStore) -> None:
    salts = {(site, day): store.get_or_create(site, day) for site in SITES for day in (YESTERDAY, TODAY)}

    assert len(set(salts.values())) == 2 * len(SITES)
    assert all(len(bytes.fromhex(salt)) == 32 for salt in salts.values())
    assert {key: store.get_or_create(*key) for key in salts} == salts


def test_threads_get_the_same_salt(store: SaltStore) -> None:
    barrier, seen = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        seen.append(tuple(store.get_or_create(site, TODAY) for site in SITES))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_forgetting_deletes_earlier_days_only(store: SaltStore) -> None:
    kept = store.get_or_create(SITE, TODAY)
    forgotten = [store.get_or_create(SITE, TODAY - timedelta(days=days)) for days in (1, 2, 40)]

    assert store.forget_before(TODAY) == 3
    assert store.forget_before(TODAY) == 0
    assert store.get_or_create(SITE, TODAY) == kept
    assert store.get_or_create(SITE, YESTERDAY) not in forgotten
