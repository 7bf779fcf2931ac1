"""The dashboard with an access key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests_mock

from tests.support.dashboard import STATS, Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[requests_mock.Mocker]:
    """Answer queries as a store without sites does."""
    info = {"hits": 12_345, "rows_in_quarantine": 0, "bytes_on_disk": 5_400_000}
    with requests_mock.Mocker() as mocker:
        mocker.get(f"{STATS}/v0/pipes/api_active_visitors.json", json={"data": [{"active_visitors": 0}]})
        mocker.get(f"{STATS}/v0/pipes/api_sites.json", json={"data": []})
        mocker.get(f"{STATS}/v0/store/info", json=info)
        yield mocker


@pytest.fixture
def dashboard(tmp_path: Path, upstream: requests_mock.Mocker) -> Dashboard:
    return Dashboard(tmp_path, upstream)
