"""Run the service with a Tinybird or a store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.embedded_store import ADMIN, EmbeddedStore
from tests.support.fake_tinybird import FakeTinybird
from tests.support.service import Service

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def running(
    data_dir: Path, app: str = "app:app", tls: ssl.SSLContext | None = None, /, **environment: str
) -> Iterator[tuple[Service, FakeTinybird]]:
    """Run the service and a fake Tinybird; fails if a file holds a secret afterwards, or the log a defect."""
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


@contextlib.contextmanager
def running_with_store(tmp_path: Path, **environment: str) -> Iterator[tuple[Service, EmbeddedStore]]:
    """Run the service with the embedded store, as they are deployed together."""
    store = EmbeddedStore(tmp_path / "store")
    service = Service(
        tmp_path / "data",
        store.url,
        **{"STATS_TARGET": store.url, "STATS_CACHE_SECONDS": "0", "TINYBIRD_ADMIN_TOKEN": ADMIN} | environment,
    )
    try:
        store.start()
        service.start()
        yield service, store
        assert service.secrets_on_disk() == []
        assert '"event": "UnhandledError"' not in service.log
        assert '"event": "ChoreFailed"' not in service.log
    finally:
        service.kill_tree()
        store.kill()
