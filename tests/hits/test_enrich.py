from __future__ import annotations

import json
from typing import get_type_hints

import pytest

from tests.support.app import Service, page_hit
from traffic_analytics.hits.page_hit import Derived, Payload

WIRE_NAMES = dict(zip(Payload.__struct_fields__, Payload.__struct_encode_fields__, strict=True))
DERIVED = [WIRE_NAMES[name] for name, kind in get_type_hints(Payload).items() if kind == Derived]


def test_the_derived_fields_are_known() -> None:
    assert {"event_id", "os", "browser", "device", "referrerUrl", "meta"} < set(DERIVED)


@pytest.mark.parametrize("value", ["chosen by the client", {"ip": "203.0.113.77"}, ["chosen by the client"], 7, None])
@pytest.mark.parametrize("field", [name for name in DERIVED if name != "event_id"])
def test_a_client_cannot_set_a_derived_field(field: str, value: object, service: Service) -> None:
    service.hit()
    service.hit(page_hit(**{field: value}))

    without, with_it = (event["payload"] for event in service.events)
    assert with_it | {"event_id": ""} == without | {"event_id": ""}


def test_an_event_holds_the_fields_of_the_payload_in_their_order(service: Service) -> None:
    referrer = {"url": "https://www.google.com/", "source": None, "medium": None}
    service.hit(page_hit(parsedReferrer=referrer, referrer="https://www.google.com/"))

    text = service.tinybird.request_history[0].body
    assert list(json.loads(text)["payload"]) == [
        name for name in Payload.__struct_encode_fields__ if name != "referrer"
    ]
