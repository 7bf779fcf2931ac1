import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import create_app

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Bound to what nobody listens on, so that no command reaches another store on this machine.
    return Settings(bind="unix:/nowhere", data_dir=tmp_path / "store", memory_mb=256)


@pytest.fixture
def app(settings: Settings, clock: Clock) -> Iterator[Flask]:
    app = create_app(settings, clock=clock)
    yield app
    app.extensions["store"].database.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def post_golden(client: FlaskClient) -> None:
    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        body = (GOLDEN / f"{name}.ndjson").read_bytes()
        answer = client.post(f"/v0/events?name={name}&wait=true", data=body)
        assert answer.get_json() == {"successful_rows": body.count(b"\n"), "quarantined_rows": 0}


def ndjson(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)
