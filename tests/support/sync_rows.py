"""Build the rows of Ghost's automations as Ghost sends them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.app import SITE

KEY = "the-key-of-these-tests"
PATH = "/api/v1/tinybird-sync"


def run(number: int = 0, **payload: Any) -> dict[str, Any]:
    """Build a row of Ghost's table of runs; changes apply to the payload."""
    row = {
        "id": f"6920f0c1a1b2c3d4e5{number:06x}",
        "automation_id": "6920f0c1a1b2c3d4e5f60001",
        "created_at": "2026-11-22T00:30:13.714Z",
        "updated_at": "2026-11-22T00:30:13.714Z",
        "site_uuid": SITE,
    }
    return {
        "type": "automation_runs",
        "site_uuid": SITE,
        "id": row["id"],
        "updated_at": row["updated_at"],
        "payload": row | payload,
    }


def step(number: int = 0, of: int = 0, **payload: Any) -> dict[str, Any]:
    """Build a row of Ghost's table of steps; changes apply to the payload."""
    row = {
        "id": f"6920f0c1a1b2c3d4e6{number:06x}",
        "automation_run_id": f"6920f0c1a1b2c3d4e5{of:06x}",
        "automation_action_revision_id": "6920f0c1a1b2c3d4e5f60002",
        "status": "pending",
        "step_attempts": 0,
        "ready_at": "2026-11-23T00:30:13.714Z",
        "started_at": None,
        "finished_at": None,
        "created_at": "2026-11-22T00:30:13.714Z",
        "updated_at": "2026-11-22T00:30:13.714Z",
        "site_uuid": SITE,
    }
    return {
        "type": "automation_run_steps",
        "site_uuid": SITE,
        "id": row["id"],
        "updated_at": row["updated_at"],
        "payload": row | payload,
    }


def body_of(*rows: Any) -> bytes:
    """Encode rows as Ghost does: one a line, without a line break at the end."""
    return b"\n".join(
        row if isinstance(row, bytes) else json.dumps(row, separators=(",", ":")).encode() for row in rows
    )
