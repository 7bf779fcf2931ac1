from __future__ import annotations

import hashlib
import io
import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from tests.support.app import FIREFOX, NOW, SITE, TARGET, Service, page_hit
from traffic_analytics.hits import signed_url
from traffic_analytics.hits.visitor import MAX_ENTRIES, read_address

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = object()
NO_REFERRER = {"source": None, "medium": None, "url": None}
CANARY = "CANARY-9d1f"
UUID = "0fe04a48-1111-7222-F333-c106c06dff2e"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
HIT = "/api/v1/page_hit?name=analytics_events"

NO_STRINGS: tuple[Any, ...] = (5, True, ["x"], {"x": "y"})
BLANKS = ("", " ", "\t\n", "\u00a0")
OPTIONAL = ("referrer", "gift_link", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
NO_UUIDS = (
    "",
    "null",
    "x",
    f"{{{UUID}}}",
    f"{UUID}\n",
    f" {UUID}",
    UUID.replace("-", ""),
    UUID[:-1],
    UUID.replace("0", "g"),
    f"urn:uuid:{UUID}",
)
NO_TIMESTAMPS = (
    "",
    "2026-11-22",
    "2026-11-22T12:30:15Z",
    "2026-11-22T12:30:15.00Z",
    "2026-11-22T12:30:15.000000Z",
    "2026-11-22T12:30:15.000",
    "2026-11-22T12:30:15.000+00:00",
    "2026-11-22t12:30:15.000z",
    "2026-11-22 12:30:15.000Z",
    "2026-11-22T12:30:15,000Z",
    "2026-11-22T12:30:15.000Z ",
    "2026-11-22T12:30:15.000Z\n",
    "+002026-11-22T12:30:15.000Z",
    "٢٠٢٦-11-22T12:30:15.000Z",
    "2026-02-29T12:30:15.000Z",
    "2026-04-31T12:30:15.000Z",
    "2026-13-01T12:30:15.000Z",
    "2026-00-01T12:30:15.000Z",
    "2026-11-22T25:30:15.000Z",
    "2026-11-22T12:60:15.000Z",
    "2026-11-22T12:30:61.000Z",
    "0000-11-22T12:30:15.000Z",
    "W026-11-22T12:30:15.000Z",
)

REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    ("timestamp", (MISSING, None, *NO_STRINGS, *NO_TIMESTAMPS)),
    ("action", (MISSING, None, *NO_STRINGS, "", "pageview", "PAGE_HIT", " page_hit")),
    ("version", (MISSING, None, *NO_STRINGS, 1, "", "2", "1.0")),
    ("session_id", (None, *NO_STRINGS)),
    ("payload", (MISSING, None, 5, True, "x", [], {})),
    ("payload.user-agent", (MISSING, None, *NO_STRINGS, *BLANKS)),
    ("payload.locale", (MISSING, None, *NO_STRINGS, *BLANKS)),
    ("payload.pathname", (MISSING, None, *NO_STRINGS, *BLANKS)),
    ("payload.location", (MISSING, *NO_STRINGS, *BLANKS)),
    ("payload.href", (MISSING, None, *NO_STRINGS)),
    ("payload.site_uuid", (MISSING, None, *NO_STRINGS, *NO_UUIDS, "undefined")),
    ("payload.post_uuid", (MISSING, None, *NO_STRINGS, *NO_UUIDS, "Undefined")),
    ("payload.member_uuid", (MISSING, None, *NO_STRINGS, *NO_UUIDS, "Undefined")),
    ("payload.post_type", (MISSING, None, *NO_STRINGS, "", "Post", "draft")),
    ("payload.member_status", (MISSING, None, *NO_STRINGS, "")),
    *((f"payload.{name}", NO_STRINGS) for name in OPTIONAL),
    ("payload.parsedReferrer", (None, 5, True, "x", [])),
    *((f"payload.parsedReferrer.{name}", NO_STRINGS) for name in ("source", "medium", "url")),
]

ACCEPTED: list[tuple[str, tuple[Any, ...]]] = [
    ("timestamp", ("2024-02-29T00:00:00.000Z", "1999-12-31T23:59:59.999Z")),
    ("session_id", (MISSING, "", "x")),
    ("payload.user-agent", ("x", " x ")),
    ("payload.location", (None, "DE")),
    ("payload.href", ("", " ", "no URL", "https://[", "http://\\")),
    ("payload.site_uuid", (UUID, UUID.upper(), "00000000-0000-0000-0000-000000000000")),
    ("payload.post_uuid", (UUID, "undefined")),
    ("payload.member_uuid", (UUID, "undefined")),
    ("payload.post_type", ("null", "post", "page")),
    ("payload.member_status", ("undefined", "free", "paid", "comped", "gift", "x", " ")),
    *((f"payload.{name}", (MISSING, None, "", "x")) for name in OPTIONAL),
    ("payload.parsedReferrer", (MISSING, {}, {"source": "x"}, {"other": 5})),
    *((f"payload.parsedReferrer.{name}", (MISSING, None, "", "x")) for name in ("source", "medium", "url")),
]


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start one service for the long tables; its start takes longer than a request."""
    with requests_mock.Mocker() as tinybird:
        tinybird.post(TARGET, status_code=202, json={})
        yield Service(tmp_path_factory.mktemp("shared"), tinybird)


def changed(place: str, value: Any) -> dict[str, Any]:
    """Build a hit with one value changed or removed."""
    body: dict[str, Any] = page_hit()
    parent_object = body
    *parents, name = place.split(".")
    for parent in parents:
        parent_object = parent_object[parent]
    if value is MISSING:
        parent_object.pop(name, None)
    else:
        parent_object[name] = value
    return body


def cases(table: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    return [
        pytest.param(place, value, id=f"{place}={'MISSING' if value is MISSING else ascii(value)}")
        for place, values in table
        for value in values
    ]


def refusal(answer: Any, status: int = 400, name: str = "Bad Request") -> str:
    """Check an error's shape and return its message."""
    assert answer.status_code == status
    assert answer.json == {"error": name, "message": answer.json["message"], "statusCode": status}
    assert answer.headers["access-control-allow-origin"] == "*"
    message: str = answer.json["message"]
    return message


@pytest.mark.parametrize(("place", "value"), cases(REFUSED))
def test_a_field_that_breaks_its_rule_is_refused_by_name(place: str, value: Any, shared_service: Service) -> None:
    shared_service.tinybird.reset_mock()

    message = refusal(shared_service.hit(changed(place, value)))

    where, _, rule = message.partition(": ")
    if value is MISSING:
        assert where == f"body.{place}".rpartition(".")[0]
        assert place.rpartition(".")[2] in rule
    elif place == "payload" and value == {}:
        assert where == "body.payload"
    else:
        assert where == f"body.{place}"
    assert "must" in rule or "misses" in rule
    assert shared_service.events == []


@pytest.mark.parametrize(("place", "value"), cases(ACCEPTED))
def test_a_field_within_its_rule_is_accepted(place: str, value: Any, shared_service: Service) -> None:
    shared_service.tinybird.reset_mock()

    assert shared_service.hit(changed(place, value)).status_code == 202
    assert len(shared_service.events) == 1


@pytest.mark.parametrize("name", OPTIONAL[1:])
def test_an_optional_field_is_forwarded_unchanged_or_as_null(name: str, service: Any) -> None:
    service.hit(page_hit(**{name: "spring"}))
    service.hit(page_hit(**{name: ""}))
    service.hit(changed(f"payload.{name}", MISSING))

    assert [event["payload"][name] for event in service.events] == ["spring", "", None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"5",
        b'"x"',
        b"[]",
        b"{",
        b"{}{}",
        b"{'action': 1}",
        b"\xff\xfe",
        b"\x00",
        b"NaN",
        b"[" * 20_000,
        b'{"a":' * 4_000,
        b"9" * 20_000,
        b"-",
        b"1e999",
        b'{"payload":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, service: Any) -> None:
    assert refusal(service.hit(body)).startswith("body")


@pytest.mark.parametrize("value", [CANARY, {CANARY: CANARY}, [CANARY]], ids=["text", "object", "list"])
@pytest.mark.parametrize("place", [place for place, _ in REFUSED])
def test_no_message_quotes_the_body(place: str, value: Any, shared_service: Service) -> None:
    answer = shared_service.hit(changed(place, value))

    assert CANARY not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "name=",
        "name=other",
        "name=analytics_events2",
        "Name=analytics_events",
        "name=analytics_events&name=analytics_events",
        "name=analytics_events&name=analytics_events_test",
        "name=analytics_events&name=",
        "name=analytics_events%00",
        "name=%20analytics_events",
        f"name={CANARY}",
        f"token={CANARY}",
    ],
)
def test_the_data_source_must_be_named_exactly_once(query: str, service: Any) -> None:
    message = refusal(service.hit(target=f"/api/v1/page_hit?{query}"))

    assert message.startswith("query.name: must")
    assert CANARY not in message


@pytest.mark.parametrize("tokens", ["token=", "token=%20", "token", f"token={CANARY}&token={CANARY}"])
def test_a_token_must_not_be_blank_or_given_twice(tokens: str, service: Any) -> None:
    message = refusal(service.hit(target=f"{HIT}&{tokens}"))

    assert message.startswith("query.token: must")
    assert CANARY not in message


@pytest.mark.parametrize(
    "site",
    [None, "", " ", "undefined", f"{{{SITE}}}", SITE.replace("-", ""), SITE[:-1], f"{SITE}0", f"{SITE},{SITE}", CANARY],
)
def test_a_site_header_that_is_no_uuid_is_refused(site: str | None, service: Any) -> None:
    message = refusal(service.hit(headers={"x-site-uuid": site}))

    assert message.startswith("headers.x-site-uuid: must")
    assert CANARY not in message


@pytest.mark.parametrize("agent", [None, "", "  ", "\t"])
def test_a_blank_user_agent_is_refused(agent: str | None, service: Any) -> None:
    environ = EnvironBuilder(HIT, method="POST", json=page_hit(), headers=[("x-site-uuid", SITE)]).get_environ()
    if agent is not None:
        environ["HTTP_USER_AGENT"] = agent

    assert refusal(call(service, environ)).startswith("headers.user-agent: must")


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON", "application/json ;x=y"],
)
def test_a_content_type_may_be_in_any_case_and_carry_parameters(kind: str, service: Any) -> None:
    assert service.hit(headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonp", "application/ld+json", "json", f"text/{CANARY}"])
def test_another_content_type_is_refused(kind: str, service: Any) -> None:
    message = refusal(service.hit(headers={"Content-Type": kind}), 415, "Unsupported Media Type")

    assert message.startswith("content-type: must")
    assert CANARY not in message


def padded(size: int) -> bytes:
    """Build a valid hit of this size, in bytes."""
    return json.dumps(page_hit()).encode().ljust(size)


def call(service: Any, environ: dict[str, Any]) -> Response:
    """Call the application with exactly this environment, which the test client would complete."""
    return Response.from_app(service.client.application, environ)


def chunked(service: Any, stream: Any, target: str = HIT) -> Any:
    """Post a hit without a declared length, as a WSGI server passes it on."""
    environ = EnvironBuilder(
        target,
        method="POST",
        headers=[
            ("x-site-uuid", SITE),
            ("User-Agent", FIREFOX),
            ("Content-Type", "application/json"),
            ("Transfer-Encoding", "chunked"),
        ],
    ).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    return call(service, {**environ, "wsgi.input": stream, "wsgi.input_terminated": True})


class Endless(io.BytesIO):
    """A body that never ends, and counts the bytes read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "reads without a limit"
        self.bytes_read += size
        return b" " * size


class Unreadable(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize(("size", "status"), [(20_480, 202), (20_481, 413), (100_000, 413)])
def test_a_body_may_have_20480_bytes_chunked_or_not(size: int, status: int, service: Any) -> None:
    assert service.hit(padded(size)).status_code == status
    assert chunked(service, io.BytesIO(padded(size))).status_code == status


def test_a_body_too_large_is_refused_with_the_limit(service: Any) -> None:
    message = refusal(service.hit(padded(20_481)), 413, "Payload Too Large")

    assert message.startswith("body: must")
    assert "20480" in message


def test_a_body_declared_too_large_is_not_read(service: Any) -> None:
    environ = EnvironBuilder(HIT, method="POST").get_environ()

    answer = call(service, {**environ, "CONTENT_LENGTH": "20481", "wsgi.input": Unreadable()})

    assert answer.status_code == 413


def test_an_endless_body_is_read_no_further_than_the_limit(service: Any) -> None:
    body = Endless()

    assert chunked(service, body).status_code == 413
    assert body.bytes_read <= 65_536


def test_size_comes_before_signature_and_signature_before_all_else(start: Any) -> None:
    service = start(HMAC_SECRET="k")
    everything_wrong = {"x-site-uuid": None, "Content-Type": "text/plain"}
    t = f"&t={int(NOW.timestamp())}"
    signed = f"{HIT}{t}&hmac={signed_url.sign(HIT + t, b'k').decode()}"

    assert service.hit(padded(20_481), "/api/v1/page_hit?name=x", headers=everything_wrong).status_code == 413
    assert service.hit(b"{", "/api/v1/page_hit?name=x", headers=everything_wrong).status_code == 401
    assert service.hit(b"{", signed, headers=everything_wrong).status_code in (400, 415)
    assert service.hit(b"{", signed).status_code == 400
    assert service.hit(target=signed).status_code == 202


def test_a_refused_signature_repeats_neither_the_signature_nor_a_token(start: Any) -> None:
    answer = start(HMAC_SECRET="k").hit(target=f"{HIT}&token={CANARY}&t={int(NOW.timestamp())}&hmac={CANARY}")

    assert refusal(answer, 401, "Unauthorized")
    assert CANARY not in answer.text


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


@pytest.mark.parametrize("raw", [b"[" * 9_000 + b"]" * 9_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"1e999"])
@pytest.mark.parametrize("place", [b"event_id", b"unknown", b"pathname", b"parsedReferrer"])
def test_a_value_nested_too_deep_or_too_large_is_no_server_error(place: bytes, raw: bytes, service: Any) -> None:
    body = json.dumps(page_hit()).encode().replace(b'"payload": {', b'"payload": {"' + place + b'": ' + raw + b", ")

    assert len(body) <= 20_480
    assert service.hit(body).status_code in (202, 400)


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
    ("trust", "forwarded", "address"),
    [
        ("", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("true", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("true", "198.51.100.1", "198.51.100.1"),
        ("true", "2001:db8::1,10.0.0.1", "2001:db8::1"),
        ("true", None, "192.0.2.7"),
        ("false", "198.51.100.1, 203.0.113.5, 10.0.0.1", "192.0.2.7"),
        ("0", "198.51.100.1, 203.0.113.5, 10.0.0.1", "192.0.2.7"),
        ("1", "198.51.100.1, 203.0.113.5, 10.0.0.1", "10.0.0.1"),
        ("2", "198.51.100.1, 203.0.113.5, 10.0.0.1", "203.0.113.5"),
        ("3", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("2", "198.51.100.1,203.0.113.5,10.0.0.1", "203.0.113.5"),
        ("2", "198.51.100.1", "198.51.100.1"),
        ("2", None, "192.0.2.7"),
        ("true", "unknown, 203.0.113.5:50123", "203.0.113.5"),
        ("true", ", ,_hidden,words here,[2001:DB8::7]:443", "2001:db8::7"),
        ("true", "unknown, _hidden", "192.0.2.7"),
        ("true", "", "192.0.2.7"),
        ("2", "198.51.100.1, unknown, 203.0.113.5", "203.0.113.5"),
        ("2", "198.51.100.1, unknown, unknown", "192.0.2.7"),
        ("3", "198.51.100.9, for=unknown, , 203.0.113.5", "203.0.113.5"),
        ("1", "198.51.100.1, unknown", "192.0.2.7"),
        ("3", "unknown, 203.0.113.5", "203.0.113.5"),
        ("true", "x," * MAX_ENTRIES + "203.0.113.5", "192.0.2.7"),
    ],
)
def test_the_session_id_uses_the_address_from_trusted_proxies(
    trust: str, forwarded: str | None, address: str, start: Any
) -> None:
    service = start(TRUST_PROXY=trust)

    service.hit(headers={"X-Forwarded-For": forwarded}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})

    salt = service.salts.get_or_create(SITE, NOW.date())
    assert re.fullmatch("[0-9a-f]{64}", salt)
    expected = hashlib.sha256(f"{salt}:{SITE}:{address}:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("198.51.100.7:50123", "198.51.100.7"),
        ("198.51.100.7:", "198.51.100.7"),
        ("198.51.100.7:_port", "198.51.100.7"),
        ("[198.51.100.7]:80", "198.51.100.7"),
        ('"198.51.100.7"', "198.51.100.7"),
        ("'198.51.100.7:80'", "198.51.100.7"),
        ("198.051.100.007", "198.51.100.7"),
        ("000.000.000.000", "0.0.0.0"),
        ("\t198.51.100.7 ", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::FFFF:c633:6407", "198.51.100.7"),
        ("0:0:0:0:0:ffff:198.051.100.007", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:50123", "198.51.100.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("2001:0db8:0000:0000:0000:0000:0000:0007", "2001:db8::7"),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ('"[2001:db8::7]:443"', "2001:db8::7"),
        ("2001:db8::7:50123", "2001:db8::7"),
        ("2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2:3:4:5:6"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ("fe80::1%eth0", "fe80::1"),
        ("[FE80::1%25eth0]:80", "fe80::1"),
        ("for=198.51.100.7", "198.51.100.7"),
        ("For=198.51.100.7:80;proto=https", "198.51.100.7"),
        ('proto=https; by=203.0.113.1; for="[2001:DB8::7]:4711"', "2001:db8::7"),
    ],
)
def test_every_spelling_of_an_address_is_the_same_visitor(spelling: str, address: str, start: Any) -> None:
    service = start(TRUST_PROXY="true")

    service.hit(headers={"X-Forwarded-For": spelling}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    service.hit(headers={"X-Forwarded-For": address}, environ_overrides={"REMOTE_ADDR": "192.0.2.8"})
    service.hit(environ_overrides={"REMOTE_ADDR": spelling})

    assert len({event["session_id"] for event in service.events}) == 1
    salt = service.salts.get_or_create(SITE, NOW.date())
    expected = hashlib.sha256(f"{salt}:{SITE}:{address}:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected


@pytest.mark.parametrize(
    "words",
    [
        *("", " ", "unknown", "_hidden", "_hidden:80", "-", "localhost", "blog.example", "a:b", "[]", "[:]:80", "for="),
        *("1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4:words", "0x7f.0.0.1", "0001.2.3.4", "1.2.3.4/32"),
        *(
            "http://1.2.3.4/",
            "\u00b2.1.1.1",
            "for=;for=x",
            "1::2::3",
            "1:2:3:4:5:6:7",
            "::g",
            "1.2.3.4" + " " * 300 + "x",
        ),
    ],
)
def test_words_are_no_address(words: str) -> None:
    assert read_address(words) is None


@given(st.ip_addresses())
@example(ip_address("::"))
@example(ip_address("2001:db8::"))
def test_a_plain_address_is_read_as_it_was_written(address: IPv4Address | IPv6Address) -> None:
    plain = str(getattr(address, "ipv4_mapped", None) or address)

    assert read_address(plain) == plain
    assert read_address(f"[{address.exploded.upper()}%1]:65535") == plain


@given(st.text(st.characters(max_codepoint=255), max_size=60) | st.text("0123456789abcdef:.%[]=;_ ", max_size=60))
def test_what_is_read_as_an_address_is_one_in_its_one_spelling(text: str) -> None:
    address = read_address(text)

    assert address is None or (str(ip_address(address)) == address == read_address(address))


def test_lines_of_a_repeated_header_are_one_list(start: Any) -> None:
    service = start(TRUST_PROXY="1")
    headers = Headers([("x-site-uuid", SITE), ("User-Agent", FIREFOX), ("Content-Type", "application/json")])
    headers.extend([("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.5:80")])

    service.client.post(HIT, data=json.dumps(page_hit()), headers=headers)
    service.hit(headers={"X-Forwarded-For": "203.0.113.5"})

    assert len({event["session_id"] for event in service.events}) == 1


def test_a_visitor_has_another_session_id_on_every_site_and_day(service: Any) -> None:
    service.hit()
    service.hit()
    service.hit(headers={"x-site-uuid": UUID})
    service.now = NOW.replace(day=23)
    service.hit()

    names = [event["session_id"] for event in service.events]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_day_is_that_of_utc_when_the_hit_arrived(service: Any) -> None:
    service.now = NOW.replace(hour=23, minute=59, second=59, microsecond=999_999)
    service.hit()

    salt = service.salts.get_or_create(SITE, NOW.date())
    expected = hashlib.sha256(f"{salt}:{SITE}:127.0.0.1:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected
    assert service.events[0]["timestamp"] == "2026-11-22T23:59:59.999Z"


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
