"""Test that a kept connection serves every hit once, however its bytes arrive."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.app import FIREFOX, SITE, page_hit
from tests.support.browsers import TARGET
from tests.support.running import running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

HITS = 300


def send_headers_early(port: int, name: int) -> list[int]:
    """Send each hit's headers with the body of the hit before, and its body after the response to that."""
    bodies = [json.dumps(page_hit(event_id=f"{name}-{n}")).encode() for n in range(HITS)]
    heads = [
        f"POST {TARGET} HTTP/1.1\r\nHost: blog.example\r\nContent-Type: application/json\r\nUser-Agent: {FIREFOX}\r\n"
        f"x-site-uuid: {SITE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for body in bodies
    ]
    statuses = []
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(heads[0])
        for body, next_head in zip(bodies, [*heads[1:], b""], strict=True):
            sock.sendall(body + next_head)
            response = http.client.HTTPResponse(sock)
            response.begin()
            response.read()
            statuses.append(response.status)
    return statuses


def test_hits_whose_headers_arrive_before_the_last_response_are_each_served_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool", WEB_CONCURRENCY="1") as (service, fake):
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(send_headers_early, [service.port] * 8, range(8)))
        assert statuses == [[202] * HITS] * 8
        fake.wait_for([f"{name}-{n}" for name in range(8) for n in range(HITS)], 20)
        assert set(fake.delivered.values()) == {1}
