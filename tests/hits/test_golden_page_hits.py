from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.app import NOW, golden

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.mark.parametrize("case", golden("page_hits.jsonl"), ids=lambda case: case["name"])
def test_a_recorded_request_is_answered_and_forwarded_as_recorded(case: dict[str, Any], start: Any) -> None:
    service = start(**case["env"])
    request, expect = case["request"], case["expect"]
    chunked = ("Transfer-Encoding", "chunked") in [tuple(header) for header in request["headers"]]
    answer = service.client.open(
        request["target"],
        method=request["method"],
        headers=[tuple(header) for header in request["headers"]],
        data=(request.get("body") or "").encode(),
        environ_overrides={"REMOTE_ADDR": "192.0.2.7"} | ({"wsgi.input_terminated": True} if chunked else {}),
    )

    assert answer.status_code == expect["status"]
    assert answer.headers["access-control-allow-origin"] == "*"
    if expect.get("error"):
        assert answer.json["error"] == expect["error"]
        assert answer.json["statusCode"] == expect["status"]
        assert answer.json["message"]
    forwarded = expect.get("forwarded")
    history = service.tinybird.request_history
    assert len(history) == (1 if forwarded else 0)
    if not forwarded:
        return
    assert urlsplit(history[0].url).query == forwarded["query"]
    token = case["env"].get("TINYBIRD_TRACKER_TOKEN", "test-token")
    assert history[0].headers.get("Authorization") == (f"Bearer {token}" if token else None)
    assert not {"cookie", "x-forwarded-for"} & {name.lower() for name in history[0].headers}
    assert history[0].headers["User-Agent"] == "traffic-analytics"
    assert b"203.0.113.9" not in history[0].body
    event = json.loads(history[0].body)
    assert with_placeholders(event, forwarded["event"]) == forwarded["event"]
    assert event["timestamp"] == "2026-11-22T12:30:15.123Z"
    assert event["session_id"] == expected_session(service, case)


def with_placeholders(event: Any, expected: Any) -> Any:
    """Replace values that vary by their placeholders, if they have the right form."""
    if isinstance(expected, dict) and isinstance(event, dict):
        return {key: with_placeholders(value, expected.get(key)) for key, value in event.items()}
    shape = {"<server time>": r"[0-9T:.Z-]{24}", "<session id>": "[0-9a-f]{64}", "<uuid>": UUID.pattern}
    pattern = shape.get(expected) if isinstance(expected, str) else None
    return expected if pattern is not None and re.fullmatch(pattern, event) else event


def expected_session(service: Any, case: dict[str, Any]) -> str:
    """Derive the session id by the words of the contract."""
    headers = {name.lower(): value for name, value in case["request"]["headers"]}
    address = "192.0.2.7"
    if case["env"].get("TRUST_PROXY") != "false" and "x-forwarded-for" in headers:
        address = headers["x-forwarded-for"].split(",")[0]
    site = headers["x-site-uuid"]
    salt = service.salts.get_or_create(site, NOW.date())
    return hashlib.sha256(f"{salt}:{site}:{address}:{headers['user-agent']}".encode()).hexdigest()
