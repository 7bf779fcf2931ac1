import json
from datetime import datetime
from typing import Any

import hypothesis
from flask.testing import FlaskClient
from hypothesis import strategies

from analytics_store import columns, events, usual_hits
from tests.support.app import page_hit
from tests.support.store import hit

EVENT_ID = "0fe04a48-5c5b-4f0a-9a55-0d3f4b2c7e11"
SAMPLES = [EVENT_ID, "x" * 3_000, 1, {"a": "b"}]
VALUES = strategies.none() | strategies.text(max_size=300) | strategies.sampled_from(SAMPLES)
FIELDS = [*columns.TEXTS, "event_id", "site_uuid", "meta", "parsedReferrer", "referrerUrl", "referrerSource", "other"]
PAYLOADS = strategies.dictionaries(strategies.sampled_from(FIELDS), VALUES)
ROWS = strategies.dictionaries(strategies.sampled_from(["timestamp", "session_id", "version", "inserted_at"]), VALUES)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(ROWS, PAYLOADS, strategies.booleans())
def test_a_usual_hit_is_parsed_as_one_with_an_unknown_field(row: Any, payload: Any, as_text: bool) -> None:
    event = hit(**row)
    event["payload"] |= payload
    if as_text:
        event["payload"] = json.dumps(event["payload"])
    assert parsed(event) == parsed(event | {"an unknown field of the event": "which no column holds"})


def test_events_of_the_service_and_lines_of_an_export_are_usual_hits(service: Any, client: FlaskClient) -> None:
    service.hit(page_hit())
    (sent,) = service.events
    assert usual_hits.decode(json.dumps(sent)).session_id == sent["session_id"]

    client.post("/v0/events?name=analytics_events&wait=true", json=sent)
    (exported,) = client.get("/v0/store/export?name=analytics_events").data.splitlines()
    assert usual_hits.decode(exported).session_id == sent["session_id"]


def parsed(event: dict[str, Any]) -> Any:
    (row,) = events.parse("analytics_events", [json.dumps(event).encode()], datetime(2026, 11, 22))  # noqa: DTZ001
    if isinstance(row, events.QuarantinedRow):
        return row.reason
    assert isinstance(row, events.Hit)
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    texts = {name: getattr(row.texts, name) or "" for name in columns.TEXTS.values()}
    return fields | {"texts": texts, "rest": json.loads(f"{{{row.rest}}}")}
