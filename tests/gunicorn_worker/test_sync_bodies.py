"""Test the large bodies of Ghost's sync: which are read, how many at a time and for how long."""

from __future__ import annotations

import contextlib
import platform
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.processes import (
    CHUNKED,
    Answer,
    Running,
    Upstream,
    chunks,
    length,
    read_answer,
    send_quietly,
    wait_until,
)
from tests.support.sync_rows import KEY, PATH, body_of, run, step
from traffic_analytics.automation_sync.rows import BODY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory: Path = tmp_path_factory.mktemp("sync")
    with Running(directory, upstream.url, TINYBIRD_SYNC_AUTH=KEY, THREADS="4") as service:
        yield service


def sync_head(more: bytes, key: str = KEY, target: str = PATH) -> bytes:
    """Write the headers of a sync as Ghost does, up to the blank line."""
    return (
        f"POST {target} HTTP/1.1\r\nhost: blog.example\r\nconnection: keep-alive\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/x-ndjson\r\nx-site-uuid: {SITE}\r\naccept: */*\r\nuser-agent: node\r\n"
    ).encode() + more


def nine_mebibytes() -> bytes:
    """Make the largest body that Ghost sends, with as many rows."""
    bare = len(body_of(*[run(number, note="") for number in range(1000)]))
    note = "x" * ((BODY_LIMIT - bare) // 1000)
    return body_of(*[run(number, note=note) for number in range(1000)])


@pytest.mark.parametrize("target", [PATH, "/.ghost/analytics" + PATH + "/?name=automation_run_events"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_the_largest_sync_is_accepted(framing: str, target: str, running: Running, upstream: Upstream) -> None:
    upstream.events.clear()
    body = nine_mebibytes()
    framed = length(body) + body if framing == "length" else CHUNKED + chunks(body, 16_384)

    answer = running.say(sync_head(framed, target=target))

    assert (answer.status, answer.json) == (202, {"rows": 1000, "quarantined_rows": 0})
    assert len({event["id"] for event in upstream.events}) == 1000
    assert BODY_LIMIT - 1000 < len(body) <= BODY_LIMIT


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (sync_head(length(BODY_LIMIT), key="another"), 401),
        (sync_head(b"Expect: 100-continue\r\n" + length(BODY_LIMIT), key=""), 401),
        (sync_head(length(BODY_LIMIT + 1)), 413),
        (sync_head(b"Expect: 100-continue\r\n" + length(BODY_LIMIT + 1)), 413),
        (sync_head(length(70_000), target="/api/v1/page_hit?name=analytics_events"), 413),
        (sync_head(length(70_000), target="/nowhere" + PATH), 404),
        (sync_head(length(70_000), target=PATH + "x"), 404),
    ],
    ids=["another key", "no key", "too long", "too long, expects", "hit", "unknown path", "longer path"],
)
def test_a_body_that_is_not_accepted_is_refused_before_it_is_sent(
    request_head: bytes, status: int, running: Running
) -> None:
    answer = running.say(request_head)

    assert answer.status == status
    assert answer.json["statusCode"] == status
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_chunked_body_that_is_too_long_is_refused(running: Running) -> None:
    with running.connect() as sock, sock.makefile("rb") as stream:
        data = sync_head(CHUNKED) + chunks(b" " * (BODY_LIMIT + 200_000), 65_536)
        threading.Thread(target=send_quietly, args=[sock, data]).start()

        assert read_answer(stream).status == 413


STARTED = [length(100_000) + b" ", CHUNKED + chunks(b" " * 140_000, 5000)[:-5]]


@pytest.mark.parametrize("started_body", STARTED, ids=["length", "chunked"])
def test_slow_syncs_delay_no_other_request_and_one_too_many_gets_503(started_body: bytes, running: Running) -> None:
    slow = [running.connect() for _ in range(4)]
    for sock in slow:
        sock.sendall(sync_head(started_body))

    answers: list[Answer] = []

    def is_one_too_many() -> bool:
        with running.connect() as sock, sock.makefile("rb") as stream, contextlib.suppress(TimeoutError):
            sock.settimeout(1.0)
            sock.sendall(sync_head(started_body))
            answers.append(read_answer(stream))
            return answers[-1].status == 503
        return False

    wait_until(is_one_too_many)
    started = time.monotonic()
    assert running.hit().status == 202
    assert time.monotonic() - started < 2.0
    small = body_of(step())
    assert running.say(sync_head(length(small) + small)).status == 202
    assert answers[-1].headers["retry-after"] == "30"
    assert "under way" in answers[-1].json["message"]
    for sock in slow:
        sock.close()
    body = nine_mebibytes()
    wait_until(lambda: running.say(sync_head(length(body) + body)).status == 202)


def test_two_syncs_are_sent_on_at_a_time_and_a_third_gets_503(running: Running, upstream: Upstream) -> None:
    upstream.events.clear()
    upstream.delay = 2.0
    small = sync_head(length(body_of(run())) + body_of(run()))
    answers: list[int] = []
    clients = [threading.Thread(target=lambda: answers.append(running.say(small).status)) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(upstream.events) == 2)
        assert running.say(small).status == 503
        assert running.get("/health").status == 200
    finally:
        upstream.delay = 0.0
        for client in clients:
            client.join()

    assert answers == [202, 202]
    assert running.say(small).status == 202


def resident(service: Running) -> int:
    """Return the resident memory of the worker, in MiB."""
    pid = service.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())[0]) // 1024


@pytest.mark.e2e
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library may keep freed memory")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_process_returns_the_memory_of_large_bodies(framing: str, upstream: Upstream, tmp_path: Path) -> None:
    body = nine_mebibytes()
    framed = length(body) + body if framing == "length" else CHUNKED + chunks(body, 16_384)
    with Running(tmp_path, upstream.url, TINYBIRD_SYNC_AUTH=KEY, THREADS="16") as service:
        assert service.hit().status == 202
        before = resident(service)

        for _ in range(12):
            assert service.say(sync_head(framed)).status == 202
            upstream.events.clear()

        wait_until(lambda: resident(service) < before + 45)


@pytest.mark.e2e
def test_a_sync_may_arrive_more_slowly_than_a_hit(running: Running) -> None:
    body = nine_mebibytes()
    with running.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(sync_head(length(body)) + body[:100_000])
        time.sleep(12)  # a hit would have expired after 10

        sock.sendall(body[100_000:])
        assert read_answer(stream).status == 202


def test_the_log_holds_no_key_and_no_row(running: Running) -> None:
    private = body_of(run(automation_id="private-automation"))
    for body, key in ((private, KEY), (private, "private-key"), (private + b"private", KEY)):
        assert running.say(sync_head(length(body) + body, key)).status in (202, 400, 401)

    for word in (KEY, "private", "Traceback"):
        assert word not in running.output
