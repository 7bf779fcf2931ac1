from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.e2e.fake_tinybird import FakeTinybird
from tests.e2e.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def running(data_dir: Path, **environment: str) -> Iterator[tuple[Service, FakeTinybird]]:
    """Run the service and its Tinybird; afterwards no file of theirs may hold a secret."""
    fake = FakeTinybird()
    service = Service(data_dir, fake.url, **environment)
    try:
        service.start()
        yield service, fake
        service.terminate()
        assert service.secrets_on_disk() == []
        assert '"event": "UnhandledError"' not in service.log
        assert '"event": "ChoreFailed"' not in service.log
    finally:
        service.kill_tree()
        fake.refuse()


@pytest.fixture
def fake() -> Iterator[FakeTinybird]:
    fake = FakeTinybird()
    yield fake
    fake.refuse()


@pytest.fixture
def make_service(tmp_path: Path, fake: FakeTinybird) -> Iterator[Callable[..., Service]]:
    """Make services that are killed in the end, whatever happens."""
    with contextlib.ExitStack() as stack:

        def make(**environment: str) -> Service:
            service = Service(tmp_path / "data", fake.url, **environment)
            stack.callback(service.kill_tree)
            return service

        yield make
