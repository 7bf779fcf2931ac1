from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.app import SITE
from tests.support.salts import SITES, TODAY, YESTERDAY, CountingSalts
from traffic_analytics.salts.cache import Salts


def test_the_store_is_read_once_for_each_site_and_day() -> None:
    store = CountingSalts()
    salts = Salts(store)

    first = [salts.get_or_create(site, TODAY) for site in SITES]
    assert [salts.get_or_create(site, TODAY) for site in SITES] == first
    assert store.requests == len(SITES)
    assert salts.get_or_create(SITES[0], YESTERDAY) not in first
    assert store.requests == len(SITES) + 1


def test_the_cache_forgets_past_days_too() -> None:
    store = CountingSalts()
    salts = Salts(store)
    old = salts.get_or_create(SITE, YESTERDAY)
    kept = salts.get_or_create(SITE, TODAY)

    salts.forget_cached_before(TODAY)
    salts.forget_before(TODAY)

    assert salts.get_or_create(SITE, TODAY) == kept
    assert store.requests == 2
    assert salts.get_or_create(SITE, YESTERDAY) != old


def test_a_cached_salt_is_used_for_its_whole_day_while_the_store_is_away(start: Any) -> None:
    store = CountingSalts()
    service = start(salts=store)
    service.now = datetime(2026, 11, 22, tzinfo=UTC)
    assert service.hit().status_code == 202
    store.is_away = True

    service.now = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    assert service.hit().status_code == 202
    names = {event["session_id"] for event in service.events}
    service.now = datetime(2026, 11, 23, tzinfo=UTC)
    refused = service.hit()

    assert len(names) == 1
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert len(service.events) == 2, "no visitor gets another name without a salt"


def test_the_cache_is_bounded_and_drops_its_oldest_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("traffic_analytics.salts.cache.CACHED_SITES", 2)
    store = CountingSalts()
    salts = Salts(store)

    first, second, third = (salts.get_or_create(site, TODAY) for site in SITES[:3])

    assert [salts.get_or_create(site, TODAY) for site in SITES[1:3]] == [second, third]
    assert store.requests == 3
    assert salts.get_or_create(SITES[0], TODAY) == first
    assert store.requests == 4
