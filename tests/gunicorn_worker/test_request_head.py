"""Test that the short path of the parser agrees with gunicorn's classes, whatever arrives."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.request_heads import head_parser, parse_head
from traffic_analytics.gunicorn_worker import request_head
from traffic_analytics.gunicorn_worker.request_head import NAME_LENGTH, NAMES_LIMIT, Head, HeadParser

parse_with_gunicorn = head_parser(header_map="drop", proxy_protocol="off", casefold_http_method=True).parse
"""The parser with a setting that the short path does not support; methods in capitals stay as they are."""

NAMES = [
    *(
        b"Host",
        b"host",
        b"Content-Type",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Expect",
        b"Cookie",
    ),
    *(b"Connection", b"X-Forwarded-For", b"X_Forwarded_For", b"x-a", b"X-A", b"Script-Name", b"SCRIPT_NAME", b"X\xb5"),
    *(b"", b"Bad Name", b"Bad\tName", b" Folded", b"Content-Length ", b"Http-Host", b"wsgi.input", b"Content_Length"),
    *(b"Transfer_Encoding", b"transfer-ENCODING", b"eXpect", b"CONTENT-TYPE"),
]
VALUES = [
    *(b"", b"x", b"5", b" 5 ", b"05", b"+5", b"-5", b"5, 5", b"\xb2", b"9" * 15, b"9" * 16, b"9" * 5000, b"chunked"),
    *(
        b"gzip, chunked",
        b"chunked, chunked",
        b"identity",
        b"100-continue",
        b"200-ok",
        b"close",
        b"keep-alive",
        b"a\x00b",
    ),
    *(b"a\rb", b"a\nb", b"\xe9", b"a\tb", b"\x7f", b"x" * 8_200, b"TE, close", b"5\r\n Folded"),
]
METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"GE#T",
    b"",
    b"M-SEARCH",
    b"G\xc9T",
    b"get",
    b"G",
    b"GET ",
]
TARGETS = [
    *(
        b"/",
        b"//",
        b"//a/b",
        b"/a?b=c",
        b"/a?b?c",
        b"/a?",
        b"/a%20b%2f?c=%20",
        b"/a%",
        b"*",
        b"",
        b"/a#b",
        b"/a?b#c",
        b"?a",
    ),
    *(
        b"http://x/a?b",
        b"x:443",
        b"/a:b",
        b"/[a]",
        b"/a;b",
        b"/\xe9",
        b"/a\x7f",
        b"/a b",
        b"/" + b"x" * 4100,
        b"a/b",
        b"/a\tb",
    ),
    *(b"/%c3%a9?%c3%a9", b"/?", b'/"<>^`{|}~', b"/a//b/../c"),
]
VERSIONS = [
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/1.10",
    b"",
    b"HTTP/1.1 ",
]
SEPARATORS = [b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b"\n\n"]
STARTS = [b"", b"\r\n", b"\r\n\r\n", b"\n", b" "]
COLONS = [b": ", b":", b" :", b"", b":\t"]


def head(
    start: bytes = b"",
    method: bytes = b"POST",
    target: bytes = b"/a?b",
    version: bytes = b"HTTP/1.1",
    end_of_line: bytes = b"\r\n",
    lines: bytes = b"Host: x\r\n",
) -> bytes:
    return start + b" ".join([method, target, version]) + end_of_line + lines + b"\r\n"


def mostly(values: list[bytes]) -> st.SearchStrategy[bytes]:
    """Draw the first, which is usual, more often than all others together."""
    return st.one_of(*[st.just(values[0])] * 3, st.sampled_from(values))


LINES = st.tuples(st.sampled_from(NAMES), mostly(COLONS), st.sampled_from(VALUES), mostly(SEPARATORS))
HEADS = st.builds(
    head,
    mostly(STARTS),
    mostly(METHODS),
    mostly(TARGETS),
    mostly(VERSIONS),
    mostly(SEPARATORS),
    st.lists(LINES, max_size=4).map(lambda lines: b"".join(map(b"".join, lines))),
)
UNUSUAL = [
    *[head(start=each) for each in STARTS],
    *[head(method=each) for each in METHODS],
    *[head(target=each) for each in TARGETS],
    *[head(version=each) for each in VERSIONS],
    *[head(end_of_line=each) for each in SEPARATORS],
    *[head(lines=b"Host" + each + b"x\r\n") for each in COLONS],
    *[head(lines=b"Host: x" + each + b"Accept: y\r\n") for each in SEPARATORS],
    *[head(lines=name + b": " + value + b"\r\n") for name in NAMES for value in VALUES],
    *[head(version=b"HTTP/1.0", lines=name + b": " + value + b"\r\n") for name in NAMES for value in VALUES],
    *[head(lines=name + b": 5\r\n" + other + b": 5\r\n") for name in NAMES for other in NAMES],
    head(lines=b"X: y\r\n" * 101),
    head(lines=b"".join(b"X-%d: y\r\n" % number for number in range(101))),
    head(lines=b"".join(b"X-%d: %s\r\n" % (number, b"y" * 400) for number in range(50))),
    b"\r\n\r\n",
]
"""Heads that are usual but for one or two things."""


def facts(parsed: Head) -> tuple[Any, ...]:
    """Return all that a request's head decides."""
    if parsed.error is not None:
        return (type(parsed.error),)
    set_later = ("wsgi.errors", "wsgi.input", "REMOTE_ADDR", "REMOTE_PORT")
    environ = {key: value for key, value in parsed.environ.items() if key not in set_later}
    return environ, parsed.length, parsed.is_chunked, parsed.expects_continue, parsed.must_close, parsed.keeps_open()


def test_an_unusual_head_means_the_same_on_the_short_path_as_to_gunicorn() -> None:
    for data in UNUSUAL:
        assert facts(parse_head(data)) == facts(parse_with_gunicorn(data)), data[:200]
    assert sum(parse_head(data).error is None for data in UNUSUAL) > 100


@given(HEADS)
@settings(max_examples=500, deadline=None)
def test_any_head_means_the_same_on_the_short_path_as_to_gunicorn(data: bytes) -> None:
    assert facts(parse_head(data)) == facts(parse_with_gunicorn(data))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_an_error_in_the_loop(data: bytes) -> None:
    parse_head(data + b"\r\n\r\n")
    parse_head(b"GET / HTTP/1.1\r\n" + data)


USUAL = b"POST /api/v1/page_hit?name=analytics_events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


def test_a_usual_head_takes_the_short_path(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gunicorn_h1c")
    monkeypatch.setattr(request_head, "Request", None)

    parsed = parse_head(USUAL)

    assert parsed.error is None
    assert (parsed.environ["PATH_INFO"], parsed.length) == ("/api/v1/page_hit", 5)


@pytest.mark.parametrize(
    "setting",
    [
        {"http_parser": "python"},
        {"header_map": "refuse"},
        {"permit_obsolete_folding": True},
        {"strip_header_spaces": True},
        {"casefold_http_method": True},
        {"permit_unconventional_http_method": True},
        {"permit_unconventional_http_version": True},
        {"limit_request_line": 0},
    ],
    ids=str,
)
def test_a_setting_that_the_short_path_does_not_support_turns_it_off(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = head_parser(**setting)
    assert parser.parse(USUAL).error is None

    monkeypatch.setattr(request_head, "Request", None)
    assert parser.parse(USUAL).error is not None


def test_a_script_name_of_the_process_is_taken_off_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/below")

    environ = head_parser().parse(b"GET /below/info HTTP/1.1\r\n\r\n").environ

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/below", "/info")


def test_a_unix_socket_has_the_name_of_the_host_header() -> None:
    parser = HeadParser(Config(), "/run/socket")

    assert parser.parse(b"GET / HTTP/1.1\r\nHost: blog.example:81\r\n\r\n").environ["SERVER_NAME"] == "blog.example"


def test_names_that_clients_choose_are_remembered_up_to_a_limit() -> None:
    parser = head_parser()
    for number in range(NAMES_LIMIT + 100):
        environ = parser.parse(b"GET / HTTP/1.1\r\nX-%d: y\r\n\r\n" % number).environ
        assert environ[f"HTTP_X_{number}"] == "y"

    assert len(parser._keys) <= NAMES_LIMIT


def test_a_long_name_is_not_remembered() -> None:
    parser = head_parser()
    name = "X" * (NAME_LENGTH + 1)

    assert parser.parse(f"GET / HTTP/1.1\r\n{name}: y\r\n\r\n".encode()).environ[f"HTTP_{name}"] == "y"
    assert not parser._keys


def test_an_application_cannot_change_the_environment_of_the_next_request() -> None:
    parser = head_parser()
    parser.parse(USUAL).environ["wsgi.url_scheme"] = "https"

    assert parser.parse(USUAL).environ["wsgi.url_scheme"] == "http"
