"""Run the store in this process, with a clock that stands until a test moves it."""

import json
import logging.config
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import log_configuration

GOLDEN = Path(__file__).parents[1] / "golden"


NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


class Clock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def post_golden(client: FlaskClient) -> None:
    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        body = (GOLDEN / f"{name}.ndjson").read_bytes()
        response = client.post(f"/v0/events?name={name}&wait=true", data=body)
        assert response.get_json() == {"successful_rows": body.count(b"\n"), "quarantined_rows": 0}


def ndjson(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def hit(**changes: Any) -> dict[str, Any]:
    payload = {"site_uuid": "site", "pathname": "/", "event_id": str(uuid4())} | changes.pop("payload", {})
    return {
        "timestamp": "2026-11-22T10:00:00.000Z",
        "action": "page_hit",
        "version": "1",
        "session_id": "s",
        "payload": payload,
    } | changes


def hit_at(at: datetime, session_id: str, **payload: Any) -> dict[str, Any]:
    return hit(timestamp=f"{at:%Y-%m-%dT%H:%M:%S}.000Z", session_id=session_id, payload=payload)


def start_logging() -> None:
    """Log as the store does, in a test without an app."""
    logging.config.dictConfig(log_configuration(Settings()))


def read_log(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the records that an app of the test's body logged; pytest captures the output of fixtures apart."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
