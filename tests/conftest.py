from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests_mock

from tests.support.app import TARGET, Log, Service, all_rows_fit


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than CPUs: tests wait for other processes and for deadlines."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


@pytest.fixture
def tinybird() -> Any:
    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, status_code=202, json=all_rows_fit)
        yield mocker


@pytest.fixture
def start(tmp_path: Path, tinybird: requests_mock.Mocker) -> Callable[..., Service]:
    """Start a service with more environment variables than the usual ones."""
    return lambda **environment: Service(tmp_path, tinybird, **environment)


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    return start()
