import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import Clock

# The expected values come from the time zones that the store uses, those of the package tzdata.
zoneinfo.reset_tzpath(())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # No store listens on this address, so no command reaches another store on this machine.
    return Settings(bind="unix:/nowhere", data_dir=tmp_path / "store", memory_mb=256)


@pytest.fixture
def app(settings: Settings, clock: Clock) -> Iterator[Flask]:
    app = create_app(settings, clock=clock)
    yield app
    app.extensions["store"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
