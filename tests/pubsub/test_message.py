from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.support.app import FIREFOX, page_hit
from tests.support.messages import EVENT, RAW, encoded
from traffic_analytics.errors import NoEvent
from traffic_analytics.hits import page_hit as page_hit_module
from traffic_analytics.hits.page_hit import NO_REFERRER
from traffic_analytics.pubsub import message

ADDRESS = "203.0.113.77"


@pytest.mark.parametrize("data_source", ["analytics_events", "analytics_events_test"])
def test_an_event_is_passed_on_unchanged_to_its_data_source(data_source: str) -> None:
    assert message.read(encoded(EVENT), {"data_source": data_source}) == (data_source, encoded(EVENT))


def test_an_event_without_a_data_source_goes_to_that_of_hits() -> None:
    assert message.read(encoded(EVENT), {}) == ("analytics_events", encoded(EVENT))


def test_an_event_is_reduced_to_one_line() -> None:
    published = message.read(json.dumps(EVENT, indent=1).encode(), {"data_source": "analytics_events"})

    assert isinstance(published, message.Published)
    assert b"\n" not in published.event
    assert json.loads(published.event) == EVENT


def test_a_hit_of_the_node_service_keeps_its_time_address_and_user_agent() -> None:
    unenriched = message.read(encoded(RAW), {})

    assert isinstance(unenriched, message.Unenriched)
    assert unenriched.arrived.isoformat() == "2026-11-22T23:59:59.999000+00:00"
    assert unenriched.address == ADDRESS
    assert unenriched.hit.user_agent == FIREFOX
    assert unenriched.hit.started_at == "1795307413714"


def test_a_hit_of_the_node_service_has_the_fields_of_a_hit_that_comes_directly() -> None:
    fields = page_hit(gift_link="g", utm_source="u", referrer="https://r.example/", event_id="e")["payload"]
    raw_fields = {name: value for name, value in fields.items() if name not in ("site_uuid", "user-agent")}

    unenriched = message.read(encoded({**RAW, "payload": raw_fields}), {})

    assert isinstance(unenriched, message.Unenriched)
    direct = page_hit_module.parse_body(encoded(page_hit(**fields))).payload
    assert structs.asdict(unenriched.hit.payload) | {"event_id": b""} == structs.asdict(direct) | {"event_id": b""}


def test_a_hit_of_the_node_service_may_have_a_type_of_post_that_is_not_known_here() -> None:
    unenriched = message.read(encoded({**RAW, "payload": {**RAW["payload"], "post_type": "podcast"}}), {})

    assert isinstance(unenriched, message.Unenriched)
    assert structs.asdict(unenriched.hit.payload)["post_type"] == "podcast"


def test_a_hit_of_the_node_service_may_have_no_referrer_and_no_time_of_arrival() -> None:
    fields = {**RAW["payload"], "parsedReferrer": None}
    del fields["meta"]

    unenriched = message.read(encoded({**RAW, "payload": fields}), {})

    assert isinstance(unenriched, message.Unenriched)
    assert unenriched.hit.started_at is None
    assert unenriched.hit.payload.parsedReferrer == NO_REFERRER


def test_the_address_of_a_hit_of_the_node_service_is_read_in_any_spelling() -> None:
    unenriched = message.read(encoded({**RAW, "meta": {**RAW["meta"], "ip": f"::ffff:{ADDRESS}"}}), {})

    assert isinstance(unenriched, message.Unenriched)
    assert unenriched.address == ADDRESS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b"{}",
        encoded({**EVENT, "session_id": 1}),
        encoded({**RAW, "site_uuid": "x"}),
        encoded({**RAW, "timestamp": "yesterday"}),
        encoded({**RAW, "meta": {"ip": "", "user-agent": FIREFOX}}),
        encoded({**RAW, "meta": {"user-agent": FIREFOX}}),
        encoded({**RAW, "payload": {}}),
        encoded({**RAW, "payload": {**RAW["payload"], "meta": {"received_timestamp": 1}}}),
        encoded({**RAW, "timestamp": "0001-01-01T00:00:00+14:00"}),
        encoded({**EVENT, "meta": {"ip": ADDRESS}}),
        encoded({**EVENT, "ip": ADDRESS}),
        encoded(EVENT).replace(b'"version": "1"', b'"version": "\xff"'),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_message_that_is_neither_event_nor_hit_is_no_event(data: bytes) -> None:
    with pytest.raises(NoEvent):
        message.read(data, {})


def test_an_unknown_data_source_is_refused() -> None:
    with pytest.raises(NoEvent, match="data source"):
        message.read(encoded(EVENT), {"data_source": "secrets"})


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(encoded), st.booleans())
def test_any_input_raises_no_event_and_no_other_error(data: bytes, named: bool) -> None:
    with pytest.raises(NoEvent):
        message.read(data, {"data_source": "analytics_events"} if named else {})


@pytest.mark.parametrize(
    "content",
    [
        {**RAW, "site_uuid": "x"},
        {"deep": [{"ip": ADDRESS}]},
        {"meta": ADDRESS},
        {"x-forwarded-for": f"10.0.0.1, {ADDRESS}"},
        {"x-forwarded-for": f"10.0.0.1 {ADDRESS}:443"},
        {"forwarded": f'for="{ADDRESS}";proto=https'},
        {ADDRESS: "visited"},
        {"remote": ADDRESS},
        [ADDRESS],
    ],
)
def test_a_dead_letter_holds_no_address(content: Any) -> None:
    assert ADDRESS.encode() not in message.without_address(encoded(content))


@pytest.mark.parametrize("address", ["2001:db8::77", "[2001:db8::77]:443", '"[2001:db8::77]"'])
def test_a_dead_letter_holds_no_ipv6_address(address: str) -> None:
    assert b"db8" not in message.without_address(encoded({"visitor": f"for={address}"}))


def test_a_dead_letter_keeps_text_that_is_no_address() -> None:
    kept = {"user-agent": FIREFOX, "timestamp": "2026-11-22T12:30:15.123Z", "href": "https://blog.example:8443/a::b"}

    assert json.loads(message.without_address(encoded(kept))) == kept


@pytest.mark.parametrize(("begin", "end"), [(b'{"a":', b"}"), (b'{"a":[', b"]}")])
def test_a_dead_letter_is_cut_off_below_its_maximum_depth(begin: bytes, end: bytes) -> None:
    kept = message.without_address(begin * 450 + b'"deep"' + end * 450)

    assert kept.startswith(begin * 5)
    assert kept.endswith(end * 5)
    assert b"deep" not in kept
    assert len(kept) < 200


@pytest.mark.parametrize("data", [b"", b"\xff", f"cut {ADDRESS}".encode(), encoded([ADDRESS])])
def test_a_dead_letter_of_no_json_object_holds_its_size_only(data: bytes) -> None:
    assert json.loads(message.without_address(data)) == {"bytes": len(data)}
