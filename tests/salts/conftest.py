from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.salts import OpenSalts
from traffic_analytics.salts.sqlite import SqliteSalts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "salts.sqlite3"


@pytest.fixture
def sqlite_salts() -> Iterator[OpenSalts]:
    """Make salts in a file that are closed after the test."""
    stores: list[SqliteSalts] = []

    def make(path: Path) -> SqliteSalts:
        stores.append(SqliteSalts(path))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def open_salts(sqlite_salts: OpenSalts) -> OpenSalts:
    """Open salts in a file that are closed after the test."""

    def open_at(path: Path) -> SqliteSalts:
        store = sqlite_salts(path)
        store.prepare()
        return store

    return open_at
