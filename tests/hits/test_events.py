"""Events hold what the contract names, and nothing else of the request."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.app import FIREFOX, page_hit
from tests.support.hit_requests import MISSING, changed

NO_REFERRER = {"source": None, "medium": None, "url": None}
CANARY = "CANARY-9d1f"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
HIT = "/api/v1/page_hit?name=analytics_events"


@pytest.mark.parametrize("place", ["pathname", "href", "utm_source", "event_id", "unknown"])
@pytest.mark.parametrize("text", [r"cut \ud83d", r"\ude00 rest", r"\ude00\ud83d", r"\ud83d\ude00"])
def test_a_hit_with_half_an_emoji_is_accepted(text: str, place: str, service: Any) -> None:
    body = json.dumps(page_hit(**{place: "HERE"})).replace("HERE", text).encode()

    assert service.hit(body).status_code == 202
    sent = service.events[0]["payload"]
    if place == "pathname":
        assert sent[place].encode("utf-8")


@pytest.mark.parametrize("event_id", ["0fe04a48", "x", " ", "é😀", '"\\', "9" * 1000])
def test_the_event_id_of_the_client_is_kept(event_id: str, service: Any) -> None:
    service.hit(page_hit(event_id=event_id))

    assert service.events[0]["payload"]["event_id"] == event_id


@pytest.mark.parametrize("event_id", [MISSING, None, "", 0, 5, 1.5, True, False, [], ["x"], {}, {"x": "y"}])
def test_a_hit_without_an_event_id_gets_a_fresh_one(event_id: Any, service: Any) -> None:
    body = changed("payload.event_id", event_id)
    service.hit(body)
    service.hit(body)

    first, second = (event["payload"]["event_id"] for event in service.events)
    assert UUID4.fullmatch(first)
    assert UUID4.fullmatch(second)
    assert first != second


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"a\x80b"])
def test_an_event_id_that_is_no_utf_8_is_replaced(text: bytes, service: Any) -> None:
    body = json.dumps(page_hit(event_id="HERE")).encode().replace(b"HERE", text)

    assert service.hit(body).status_code == 202
    assert UUID4.fullmatch(service.events[0]["payload"]["event_id"])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, None),
        ("", None),
        ("1795350615123", "2026-11-22T12:30:15.123Z"),
        ("1795350615000", "2026-11-22T12:30:15.000Z"),
        ("0", None),
        ("315532799999", None),
        ("315532800000", "1980-01-01T00:00:00.000Z"),
        ("10413791999999", "2299-12-31T23:59:59.999Z"),
        ("10413792000000", None),
        ("abc", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("\u00b2", None),
        ("9" * 14, None),
        ("9" * 30, None),
        ("9" * 5000, None),
    ],
)
def test_the_start_header_of_a_proxy_becomes_the_received_timestamp(
    sent: str | None, expected: str | None, service: Any
) -> None:
    service.hit(headers={"x-ghost-analytics-start": sent})

    assert service.events[0]["payload"]["meta"] == {"received_timestamp": expected}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (MISSING, {}),
        ({}, {}),
        ({"source": "x"}, {}),
        ({"url": None}, {}),
        ({"url": ""}, {}),
        ({"source": "", "medium": None, "url": ""}, {}),
        ({"source": "x", "medium": "y", "url": ""}, {}),
        (
            {"url": "https://elsewhere.test/a"},
            {"referrerUrl": "elsewhere.test", "referrerSource": "elsewhere.test", "referrerMedium": None},
        ),
        (
            {"url": "https://elsewhere.test/a", "source": "", "medium": ""},
            {"referrerUrl": "elsewhere.test", "referrerSource": "elsewhere.test", "referrerMedium": None},
        ),
        (
            {"url": "https://elsewhere.test/a", "source": "friend", "medium": "word"},
            {"referrerUrl": "elsewhere.test", "referrerSource": "friend", "referrerMedium": "word"},
        ),
    ],
)
def test_the_referrer_is_forwarded_unchanged_and_classified_only_if_it_has_a_url(
    given: Any, named: dict[str, Any], service: Any
) -> None:
    service.hit(changed("payload.parsedReferrer", given))

    payload = service.events[0]["payload"]
    assert payload["parsedReferrer"] == (given if given is not MISSING else NO_REFERRER)
    assert {key: value for key, value in payload.items() if key.startswith("referrer")} == named


@pytest.mark.parametrize(
    ("own", "query", "forwarded"),
    [
        ("ours", "name=analytics_events&token=theirs", "name=analytics_events"),
        ("", "name=analytics_events&token=theirs", "name=analytics_events&token=theirs"),
        ("", "token=the%2Firs%26name%3Dx&name=analytics_events", "name=analytics_events&token=the%2Firs%26name%3Dx"),
        ("", "name=analytics_events", "name=analytics_events"),
        ("", "name=analytics_events_test&wait=true&other=1", "name=analytics_events_test"),
        ("ours", "name=analytics_events&t=1&hmac=x&token=theirs&from=me", "name=analytics_events"),
    ],
)
def test_a_client_s_token_is_forwarded_only_if_the_service_has_none(
    own: str, query: str, forwarded: str, start: Any
) -> None:
    service = start(TINYBIRD_TRACKER_TOKEN=own)

    assert service.hit(target=f"/api/v1/page_hit?{query}").status_code == 202

    sent = service.tinybird.request_history[0]
    assert sent._request.url.partition("?")[2] == forwarded
    assert sent.headers.get("Authorization") == (f"Bearer {own}" if own else None)


@pytest.mark.parametrize("own", ["ours", ""])
def test_nothing_else_of_the_request_is_forwarded(own: str, start: Any) -> None:
    service = start(TINYBIRD_TRACKER_TOKEN=own)
    private = {
        "Cookie": f"a={CANARY}",
        "Authorization": f"Bearer {CANARY}",
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "Referer": f"https://{CANARY}.example/",
        "Origin": f"https://{CANARY}.example",
        "X-Custom": CANARY,
        "X-Request-Id": CANARY,
        "traceparent": CANARY,
        "Accept-Language": CANARY,
    }

    service.hit(changed("unknown", CANARY), f"{HIT}&unknown={CANARY}", headers=private)

    sent = service.tinybird.request_history[0]
    assert {name.lower() for name in sent.headers} <= {"content-type", "content-length", "authorization", "user-agent"}
    assert sent.headers["User-Agent"] == "traffic-analytics"
    assert sent.headers["Content-Type"] == "application/json"
    for text in (sent.url, str(dict(sent.headers)), sent.body.decode()):
        assert CANARY.lower() not in text.lower()
        assert "203.0.113.9" not in text
    assert sent.body.count(FIREFOX.encode()) == 1


def test_the_event_holds_exactly_the_fields_of_the_contract(service: Any) -> None:
    service.hit(page_hit(parsedReferrer={"url": "https://elsewhere.test/"}, other="x"))

    event = service.events[0]
    assert list(event) == ["timestamp", "action", "version", "site_uuid", "session_id", "payload"]
    assert " ".join(event["payload"]) == (
        "event_id site_uuid member_uuid member_status post_uuid post_type gift_link locale location pathname href "
        "parsedReferrer os browser device referrerUrl referrerSource referrerMedium utm_source utm_medium "
        "utm_campaign utm_term utm_content user-agent meta"
    )
