"""Publish to a gRPC server in place of Pub/Sub, which responds as each test sets it."""

from __future__ import annotations

import os
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.pubsub_v1.types import PublishRequest, PublishResponse

from tests.support.fakes import spooled
from tests.support.processes import PATIENCE
from traffic_analytics.delivery.target import Verdict
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.pubsub import topic as topic_module
from traffic_analytics.pubsub.topic import MAX_BYTES, MAX_MESSAGES, PubsubTopic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Code = grpc.StatusCode


class Pubsub:
    """A server that accepts published messages, or responds with `status`.

    It responds once `go_on` is set.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.status: grpc.StatusCode | None = None
        self._stopping = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=PublishRequest.deserialize,
            response_serializer=PublishResponse.serialize,
        )
        publisher = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler})
        self._server.add_generic_rpc_handlers((publisher,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _publish(self, request: Any, context: Any) -> PublishResponse:
        self.requests.append(request)
        self.go_on.wait(PATIENCE)
        if self.status is not None:
            context.abort(self.status, "as set")
        return PublishResponse(message_ids=[str(n) for n, _ in enumerate(request.messages)])

    def stop(self) -> None:
        self.go_on.set()
        self._stopping.set()
        self._server.stop(0).wait()


@pytest.fixture
def pubsub() -> Iterator[Pubsub]:
    pubsub = Pubsub()
    yield pubsub
    pubsub.stop()


@pytest.fixture
def topic(pubsub: Pubsub) -> PubsubTopic:
    return PubsubTopic("hits", "the-project", pubsub.address)


def test_an_event_is_published_with_its_data_source(topic: PubsubTopic, pubsub: Pubsub) -> None:
    reply = topic.post("analytics_events_test", [b"{}"])

    assert (reply.verdict, reply.status) == (Verdict.TAKEN, 202)
    (request,) = pubsub.requests
    assert request.topic == "projects/the-project/topics/hits"
    (message,) = request.messages
    assert (message.data, dict(message.attributes)) == (b"{}", {"data_source": "analytics_events_test"})


def test_a_topic_of_another_project_is_named_by_its_path(pubsub: Pubsub) -> None:
    PubsubTopic("projects/other/topics/hits", "the-project", pubsub.address).post("analytics_events", [b"{}"])

    assert pubsub.requests[0].topic == "projects/other/topics/hits"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (Code.INVALID_ARGUMENT, Verdict.WRONG_SETUP),
        (Code.RESOURCE_EXHAUSTED, Verdict.TOO_FAST),
        (Code.NOT_FOUND, Verdict.WRONG_SETUP),
        (Code.PERMISSION_DENIED, Verdict.WRONG_SETUP),
        (Code.UNAUTHENTICATED, Verdict.WRONG_SETUP),
        (Code.UNAVAILABLE, Verdict.LATER),
        (Code.INTERNAL, Verdict.LATER),
        (Code.ABORTED, Verdict.LATER),
        (Code.UNKNOWN, Verdict.LATER),
    ],
)
def test_each_status_has_its_verdict(
    topic: PubsubTopic, pubsub: Pubsub, status: grpc.StatusCode, verdict: Verdict
) -> None:
    pubsub.status = status

    reply = topic.post("analytics_events", [b"{}"])

    assert (reply.verdict, reply.reason) == (verdict, f"Pub/Sub: {status.name}")
    with pytest.raises(SpoolUnavailable, match=status.name):
        topic.add_dead_letter("analytics_events", b"{}", "status 400")


def test_a_hit_waits_at_most_two_seconds_for_pubsub(topic: PubsubTopic, pubsub: Pubsub) -> None:
    pubsub.go_on.clear()

    reply = topic.post("analytics_events", [b"{}"])

    assert (reply.verdict, reply.reason) == (Verdict.LATER, "Pub/Sub: DEADLINE_EXCEEDED")


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path at which Google's libraries look for credentials; it does not exist yet."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


@pytest.mark.parametrize(
    ("content", "error"), [(None, "IsADirectoryError"), ("[]", "AttributeError"), ("{", "DefaultCredentialsError")]
)
def test_events_are_spooled_without_credentials_and_the_reason_is_the_class_of_the_error(
    credentials: Path, start: Any, content: str | None, error: str
) -> None:
    credentials.mkdir() if content is None else credentials.write_text(content)

    reply = PubsubTopic("hits", "the-project").post("analytics_events", [b"{}"])
    service = start(PUBSUB_TOPIC_PAGE_HITS_RAW="hits", GOOGLE_CLOUD_PROJECT="the-project")

    assert (reply.verdict, reply.reason) == (Verdict.WRONG_SETUP, f"Google's credentials: {error}")
    assert service.hit().status_code == 202
    assert len(spooled(service)) == 1


def test_a_hit_waits_for_credentials_no_longer_than_for_pubsub(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_module, "PUBLISH_TIMEOUT", 0.2)
    os.mkfifo(credentials)  # opening it blocks until a writer opens it too
    topic = PubsubTopic("hits", "the-project")

    started = time.monotonic()
    replies = [topic.post("analytics_events", [b"{}"]) for _ in range(2)]
    waited = time.monotonic() - started

    assert [(reply.verdict, reply.reason) for reply in replies] == [(Verdict.LATER, "Pub/Sub: not open yet")] * 2
    assert waited < 2 * 0.2 + 0.5
    credentials.write_text("[]")
    assert topic.post_batch("analytics_events", [b"{}"]).verdict is Verdict.WRONG_SETUP


def test_events_of_several_hits_share_a_request(topic: PubsubTopic, pubsub: Pubsub) -> None:
    reply = topic.post("analytics_events", [b"1", b"2", b"3"])

    assert reply.verdict is Verdict.TAKEN
    assert [[each.data for each in request.messages] for request in pubsub.requests] == [[b"1", b"2", b"3"]]


@pytest.mark.parametrize(
    ("count", "size", "requests"), [(MAX_MESSAGES + 1, 2, 2), (3, MAX_BYTES // 2, 2), (2, MAX_BYTES // 2, 1)]
)
def test_a_request_stays_within_the_limits_of_pubsub(topic: PubsubTopic, count: int, size: int, requests: int) -> None:
    sent = list(topic._requests([("analytics_events", b"x" * size)] * count, {}))
    assert len(sent) == requests
    assert sum(len(request.messages) for request in sent) == count
