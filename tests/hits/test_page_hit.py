from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from werkzeug.test import EnvironBuilder

from tests.support.app import SITE, TARGET, Service, page_hit
from tests.support.hit_requests import MISSING, call, changed, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "CANARY-9d1f"
UUID = "0fe04a48-1111-7222-F333-c106c06dff2e"
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


def cases(table: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    return [
        pytest.param(place, value, id=f"{place}={'MISSING' if value is MISSING else ascii(value)}")
        for place, values in table
        for value in values
    ]


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
