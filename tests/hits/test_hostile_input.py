from __future__ import annotations

import io
import json
import logging
import time
from typing import TYPE_CHECKING

import pytest
import requests_mock
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.wrappers import Response

from tests.support.app import FIREFOX, SITE, TARGET, Service, page_hit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "hostile-secret-token"
HIT = {
    "REQUEST_METHOD": "POST",
    "PATH_INFO": "/api/v1/page_hit",
    "QUERY_STRING": "name=analytics_events",
    "CONTENT_TYPE": "application/json",
    "HTTP_USER_AGENT": FIREFOX,
    "HTTP_X_SITE_UUID": SITE,
}
HEADERS = (
    "CONTENT_TYPE",
    "HTTP_USER_AGENT",
    "HTTP_X_SITE_UUID",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_GHOST_ANALYTICS_START",
    "HTTP_X_REQUEST_ID",
    "HTTP_TRACEPARENT",
    "HTTP_X_CLOUD_TRACE_CONTEXT",
    "HTTP_HOST",
    "HTTP_COOKIE",
    "HTTP_ORIGIN",
    "HTTP_REFERER",
    "HTTP_AUTHORIZATION",
    "HTTP_ACCEPT",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_EXPECT",
    "HTTP_RANGE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_DATE",
)

latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
urls = st.one_of(
    st.text(max_size=60),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(
            ["http://", "https://", "//", "http:\\\\", "javascript:", "http://[", "http://a@", "HTTP://xn--"]
        ),
        st.text(max_size=20),
        st.sampled_from(["", ":99999", ".", "..", "/explore", "]", "%"]),
        st.text(max_size=20),
    ),
)
examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Errors(logging.Handler):
    """Handler that stores errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.getMessage()} {record.exc_info}")


class Target:
    """A service for hostile requests; each response is checked against the contract."""

    def __init__(self, service: Service, errors: Errors) -> None:
        self.service = service
        self.errors = errors

    def throw(self, body: bytes = b"", **environ: str) -> Response:
        """Pass a request directly to the application: an HTTP client would refuse half of them."""
        self.errors.records.clear()
        environ = HIT | environ
        if "HTTP_TRANSFER_ENCODING" not in environ:
            environ.setdefault("CONTENT_LENGTH", str(len(body)))
        answer = Response.from_app(
            self.service.client.application,
            {
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "SCRIPT_NAME": "",
                "REMOTE_ADDR": "192.0.2.7",
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(body),
                "wsgi.input_terminated": True,
                "wsgi.errors": io.StringIO(),
                **environ,
            },
        )
        assert self.errors.records == []
        assert answer.status_code in (200, 202, 204, 400, 401, 404, 405, 413, 415)
        assert answer.headers.getlist("access-control-allow-origin") == ["*"]
        assert TOKEN not in answer.get_data(as_text=True)
        if answer.status_code >= 400 and environ["REQUEST_METHOD"] != "HEAD":
            fields = json.loads(answer.get_data())
            assert set(fields) == {"error", "message", "statusCode"}
            assert fields["statusCode"] == answer.status_code
            assert fields["error"]
            assert fields["message"]
        return answer


@pytest.fixture(scope="module", params=["", "k"], ids=["unsigned", "signed"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path: Path = tmp_path_factory.mktemp("hostile")
    errors = Errors()
    with requests_mock.Mocker() as tinybird:
        tinybird.post(TARGET, status_code=202, json={})
        environment = {"HMAC_SECRET": request.param, "HMAC_VALIDATION_LOG_ONLY": "true" if request.param else ""}
        service = Service(path, tinybird, TINYBIRD_TRACKER_TOKEN="", LOG_LEVEL="error", **environment)
        logger = logging.getLogger("traffic_analytics")
        logger.addHandler(errors)
        yield Target(service, errors)
        logger.removeHandler(errors)


@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe{\0}\0")
@example(b"[" * 20_480)
@example(b'{"x":' * 4_000)
@example(b'"\\ud800"')
@examples
def test_any_bytes_are_refused_without_a_defect(target: Target, body: bytes) -> None:
    assert target.throw(body).status_code == 400


@given(st.builds(json.dumps, values))
@examples
def test_any_json_is_refused_without_a_defect(target: Target, body: str) -> None:
    assert target.throw(body.encode()).status_code in (400, 413)


@given(st.data())
@examples
def test_a_hit_with_anything_in_its_fields_is_accepted_or_refused(target: Target, data: st.DataObject) -> None:
    body = page_hit()
    parts = [body, body["payload"], body["payload"]["parsedReferrer"]]
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from(parts))
        key = data.draw(st.sampled_from([*part, "event_id", "referrer", "gift_link", "utm_source"]))
        action = data.draw(st.sampled_from(["set", "text", "drop"]))
        if action == "drop":
            part.pop(key, None)
        else:
            part[key] = data.draw(values if action == "set" else st.text(max_size=30))

    target.throw(json.dumps(body).encode())


@given(st.data())
@examples
def test_a_hit_with_some_bytes_changed_is_accepted_or_refused(target: Target, data: st.DataObject) -> None:
    body = bytearray(json.dumps(page_hit(event_id="0fe04a48", pathname="/\\ud83d\\ude00/")).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    target.throw(bytes(body))


@given(url=urls, source=st.text(max_size=20), medium=st.text(max_size=20), href=urls)
@example(url="http://\ud800", source="", medium="", href="\udfff")
@examples
def test_any_referrer_is_accepted(target: Target, url: str, source: str, medium: str, href: str) -> None:
    body = page_hit(parsedReferrer={"url": url, "source": source, "medium": medium}, href=href)

    assert target.throw(json.dumps(body).encode()).status_code == 202


@given(st.dictionaries(st.sampled_from(HEADERS), latin, max_size=6))
@examples
def test_any_headers_are_accepted_or_refused(target: Target, headers: dict[str, str]) -> None:
    target.throw(json.dumps(page_hit()).encode(), **headers)


@given(st.one_of(latin, st.from_regex(r"(X-[0-9a-zA-Z;,.:/+=-]{1,40}, ?){1,4}", fullmatch=True)))
@examples
def test_any_user_agent_and_any_forwarded_address_are_accepted(target: Target, text: str) -> None:
    answer = target.throw(json.dumps(page_hit()).encode(), HTTP_USER_AGENT=f"x{text}", HTTP_X_FORWARDED_FOR=text)

    assert answer.status_code == 202


@given(
    st.sampled_from(["", "-1", "5", "x", "99999999999999999999", "1e3", "\u00b2", "0x10", " 7 ", "+7"]), st.booleans()
)
@examples
def test_any_declared_length_is_accepted_or_refused(target: Target, length: str, chunked: bool) -> None:
    more = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {}

    target.throw(json.dumps(page_hit()).encode(), CONTENT_LENGTH=length, **more)


@given(
    st.one_of(
        latin,
        st.lists(
            st.tuples(
                st.sampled_from(["name", "token", "t", "hmac", "nam%65", "", "x"]),
                st.sampled_from(
                    ["analytics_events", "analytics_events_test", "", "%", "%00", "%ff", "+", "5", "=", "a b"]
                )
                | latin,
            ).map("=".join),
            max_size=6,
        ).map("&".join),
    )
)
@examples
def test_any_query_is_accepted_or_refused(target: Target, query: str) -> None:
    for given_query in (query, f"name=analytics_events&token={TOKEN}&{query}"):
        target.throw(
            json.dumps(page_hit()).encode(), QUERY_STRING=given_query, RAW_URI=f"/api/v1/page_hit?{given_query}"
        )


@given(
    method=st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "PUT", "TRACE", "FOO"]),
    path=st.one_of(
        latin,
        st.lists(st.sampled_from(["api", "v1", "page_hit", ".ghost", "analytics", "", ".", "..", "%00", "health"])).map(
            "/".join
        ),
    ),
)
@examples
def test_any_method_and_path_are_answered(target: Target, method: str, path: str) -> None:
    target.throw(json.dumps(page_hit()).encode(), REQUEST_METHOD=method, PATH_INFO=f"/{path}", RAW_URI=f"/{path}")


@given(place=st.sampled_from(["token", "name", "t", "hmac", "x"]), body=st.binary(max_size=20))
@examples
def test_no_message_quotes_a_token(target: Target, place: str, body: bytes) -> None:
    target.throw(body, QUERY_STRING=f"{place}={TOKEN}&{place}={TOKEN}")
    target.throw(json.dumps(page_hit(site_uuid=TOKEN)).encode(), HTTP_X_SITE_UUID=TOKEN, CONTENT_TYPE=TOKEN)


@pytest.mark.parametrize(
    "filler",
    [
        "a",
        " ",
        "/",
        "(",
        "Mozilla/5.0 ",
        "Android 1;",
        "http://",
        "%",
        "\\",
        ";Build/",
        "1.",
        "bot",
        "-newsletter",
        "A" * 7,
    ],
)
def test_no_input_takes_more_than_a_few_milliseconds(filler: str, target: Target) -> None:
    text = (filler * 20_000)[:8_000]
    body = page_hit(parsedReferrer={"url": f"http://{text}"[:8_000], "source": "", "medium": ""}, href=text)
    encoded = json.dumps(body).encode()[:20_480]

    assert min(seconds(target, encoded, f"{text}{n}") for n in range(3)) < 0.03  # a request has costs of its own


def seconds(target: Target, body: bytes, agent: str) -> float:
    began = time.process_time()
    target.throw(body, HTTP_USER_AGENT=agent)
    return time.process_time() - began
