"""Post rows of Ghost's automations as Ghost does, and read what reached Tinybird."""

from __future__ import annotations

import json
from typing import Any

from tests.support.app import SITE, Service
from tests.support.sync_rows import KEY, PATH, body_of


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def sync(service: Service, *rows: Any, path: str = PATH, **headers: str | None) -> Any:
    """Post rows as Ghost does; a header that is None is omitted."""
    sent = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/x-ndjson",
        "x-site-uuid": SITE,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return service.client.post(path, data=body_of(*rows), headers={k: v for k, v in sent.items() if v is not None})


def forwarded(service: Service) -> list[tuple[str, list[Any]]]:
    """Return the rows sent to Tinybird with their data sources."""
    return [
        (request.qs["name"][0], [json.loads(line) for line in request.body.splitlines()])
        for request in service.tinybird.request_history
    ]


def refused(answer: Any, status: int) -> str:
    """Check the shape of an error and return its message."""
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"error", "message", "statusCode"}
    assert answer.json["statusCode"] == status
    assert answer.headers["access-control-allow-origin"] == "*"
    message: str = answer.json["message"]
    return message
