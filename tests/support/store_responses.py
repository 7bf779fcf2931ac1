"""Read what a store holds."""

import json
from typing import Any

from flask.testing import FlaskClient


def pageviews(client: FlaskClient, site: str = "site") -> int:
    rows = client.get(f"/v0/pipes/api_kpis.json?site_uuid={site}&date_from=2026-11-01&date_to=2026-11-30").get_json()
    return sum(row["pageviews"] for row in rows["data"])


def exported(client: FlaskClient) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.get("/v0/store/export?name=analytics_events").data.splitlines()]
