"""Hold the private name of the thread with which Google's client reads a stream; its packages are capped for it."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.pubsub_v1.types import ModifyAckDeadlineRequest, StreamingPullRequest, StreamingPullResponse

from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.pubsub.subscription import READER, READER_GRACE, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A gRPC server in place of Pub/Sub, whose streams stay open and bring nothing."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        methods = {
            "ModifyAckDeadline": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: b"",  # an empty message
                request_deserializer=ModifyAckDeadlineRequest.deserialize,
            ),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._stream,
                request_deserializer=StreamingPullRequest.deserialize,
                response_serializer=StreamingPullResponse.serialize,
            ),
        }
        subscriber = grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", methods)
        self._server.add_generic_rpc_handlers((subscriber,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _stream(self, _requests: Any, _context: Any) -> Iterator[StreamingPullResponse]:
        self.stopping.wait(PATIENCE)
        yield from ()

    def stop(self) -> None:
        self.stopping.set()
        self._server.stop(0).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def test_the_thread_that_reads_a_stream_is_found_by_its_name(server: Server) -> None:
    subscription = Subscription(
        "page-hits", "project", server.address, max_messages=10, max_bytes=1000, monotonic=lambda: 0.0
    )

    assert subscription.open() is None

    assert subscription._reader is not None, "Google's client has renamed the thread: see READER"
    assert subscription._reader.name == READER
    assert subscription._reader.is_alive()
    subscription.close([], timeout=PATIENCE)


def test_a_stream_whose_reader_dies_is_ended(server: Server) -> None:
    now = 0.0
    subscription = Subscription(
        "page-hits", "project", server.address, max_messages=10, max_bytes=1000, monotonic=lambda: now
    )
    assert subscription.open() is None
    subscription._reader = threading.Thread()  # not alive, as one that ended by a defect

    assert subscription.ended() is None
    now = READER_GRACE + 0.1
    assert subscription.ended() is None
    wait_until(subscription.inbox.ending.is_set)
    subscription.inbox.done([])
    reason = None
    deadline = time.monotonic() + PATIENCE
    while reason is None and time.monotonic() < deadline:
        reason = subscription.ended()
    assert reason == "the thread that read its stream died"
