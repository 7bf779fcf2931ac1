from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.e2e.fake_tinybird import FakeTinybird
from tests.e2e.service import Service

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def running(
    data_dir: Path, app: str = "app:app", *, tls: ssl.SSLContext | None = None, **environment: str
) -> Iterator[tuple[Service, FakeTinybird]]:
    """Run the service and its Tinybird; afterwards no file of theirs may hold a secret."""
    fake = FakeTinybird(tls)
    service = Service(data_dir, fake.url, app, **environment)
    try:
        service.start()
        yield service, fake
        service.terminate()
        assert service.secrets_on_disk() == []
        assert '"event": "UnhandledError"' not in service.log
        assert '"event": "ChoreFailed"' not in service.log
    except BaseException:
        print(service.log)
        raise
    finally:
        service.kill_tree()
        fake.refuse()


@pytest.fixture
def fake() -> Iterator[FakeTinybird]:
    fake = FakeTinybird()
    yield fake
    fake.refuse()
