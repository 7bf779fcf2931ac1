"""Send hits and health checks to a real process: paths and headers as the HTTP parser passes them on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import page_hit
from tests.support.processes import Running, Upstream, head, hit, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = json.dumps(page_hit()).encode()
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: Any) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("running"), upstream.url, TRUST_PROXY="1") as service:
        yield service


def status_of(request: bytes, running: Running) -> int:
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(request)
        return read_answer(stream).status


@pytest.mark.parametrize("target", ["/", "*", "/health", "/ready", "/.ghost/analytics//health"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_health_check_by_options_succeeds(target: str, version: str, running: Running) -> None:
    assert status_of(f"OPTIONS {target} HTTP/{version}\r\nHost: x\r\n\r\n".encode(), running) == 204


@pytest.mark.parametrize(
    "path", ["//api/v1/page_hit", "/.ghost/analytics//api/v1/page_hit", "/.ghost//analytics/api//v1/page_hit"]
)
def test_a_hit_on_a_path_with_several_slashes_in_a_row_is_accepted(path: str, running: Running) -> None:
    assert status_of(head(LENGTH, f"{path}?name=analytics_events") + BODY, running) == 202


def test_lines_of_x_forwarded_for_are_one_list(running: Running, upstream: Upstream) -> None:
    lines = b"X-Forwarded-For: 198.51.100.1, 10.0.0.1\r\nX-Forwarded-For: [2001:DB8::7]:443\r\n"

    assert status_of(hit(lines), running) == 202
    assert status_of(hit(b"X-Forwarded-For: 2001:db8::7\r\n"), running) == 202

    first, second = upstream.events[-2:]
    assert first["session_id"] == second["session_id"]
