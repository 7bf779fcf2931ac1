"""Bodies of a hit: their limit, and what is checked before the rest."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from tests.support.app import FIREFOX, NOW, SITE, page_hit
from tests.support.hit_requests import call, refusal
from traffic_analytics.hits import signed_url

CANARY = "CANARY-9d1f"
HIT = "/api/v1/page_hit?name=analytics_events"


def padded(size: int) -> bytes:
    """Build a valid hit of this size, in bytes."""
    return json.dumps(page_hit()).encode().ljust(size)


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


@pytest.mark.parametrize("raw", [b"[" * 9_000 + b"]" * 9_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"1e999"])
@pytest.mark.parametrize("place", [b"event_id", b"unknown", b"pathname", b"parsedReferrer"])
def test_a_value_nested_too_deep_or_too_large_is_no_server_error(place: bytes, raw: bytes, service: Any) -> None:
    body = json.dumps(page_hit()).encode().replace(b'"payload": {', b'"payload": {"' + place + b'": ' + raw + b", ")

    assert len(body) <= 20_480
    assert service.hit(body).status_code in (202, 400)
