from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.gateway import STATS, Clock, Dashboard, OpenCache, StartGateway, Target
from traffic_analytics.runtime.sqlite_file import SqliteFile
from traffic_analytics.statistics.answer_cache import PRAGMAS, SCHEMA, AnswerCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.app import Service


@pytest.fixture
def gateway(start: Callable[..., Service]) -> StartGateway:
    """Start a gateway with more environment variables than the usual ones."""
    return lambda **environment: Dashboard(start(**{"STATS_TARGET": STATS, **environment}))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> OpenCache:
    """Open one more cache on the same file, as another process does."""

    def open_cache() -> AnswerCache:
        cache = AnswerCache(SqliteFile(tmp_path / "s.sqlite3", SCHEMA, PRAGMAS, busy_timeout=1.0), clock)
        cache.prepare()
        return cache

    return open_cache


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target(threading.Event())
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()
