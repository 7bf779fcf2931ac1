"""The dashboard with an access key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests_mock

from tests.support.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def dashboard(tmp_path: Path, upstream: requests_mock.Mocker) -> Dashboard:
    return Dashboard(tmp_path, upstream)
