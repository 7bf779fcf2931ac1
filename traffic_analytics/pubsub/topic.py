"""Publish events to a Pub/Sub topic for workers to deliver; a published event is as durable as a spooled one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PublishRequest

from traffic_analytics.delivery.target import NO_DATA_SOURCE, RECEIVED, Reply, Verdict
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.pubsub.message import ATTRIBUTE
from traffic_analytics.runtime.lazy_client import LazyClient, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PUBLISH_TIMEOUT = 2.0
"""Time in which hits are published before they go to the spool, in seconds."""
BATCH_TIMEOUT = 20.0
"""Time for all requests of a batch, in seconds; shorter than the claim on its events."""
DEAD_LETTER_TIMEOUT = 5.0
"""Time for publishing a dead letter, in seconds; the worker waits for it."""
MAX_MESSAGES = 1000
"""Size of the largest request, in messages: Pub/Sub's limit."""
MAX_BYTES = 9_000_000
"""Size of the largest request, in bytes of events: Pub/Sub accepts 10 MB with names and framing."""
CHANNEL = (
    ("grpc.max_reconnect_backoff_ms", 5_000),  # gRPC's default is two minutes
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

_VERDICTS = {
    # About the topic's name or schema: an event is never empty and, with BODY_LIMIT, never near 10 MB.
    grpc.StatusCode.INVALID_ARGUMENT: Verdict.WRONG_SETUP,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Verdict.TOO_FAST,
    grpc.StatusCode.NOT_FOUND: Verdict.WRONG_SETUP,
    grpc.StatusCode.PERMISSION_DENIED: Verdict.WRONG_SETUP,
    grpc.StatusCode.UNAUTHENTICATED: Verdict.WRONG_SETUP,
    grpc.StatusCode.FAILED_PRECONDITION: Verdict.WRONG_SETUP,
}
"""Verdict of each status; other statuses are temporary. No status means that a single event is at fault."""


class PubsubTopic:
    """Topic over one gRPC connection for each process, opened with the first event.

    This is Google's generated transport without Google's client. That client waits to fill batches, starts a thread
    for each, and retries after its caller has given up. Here hits that arrive during a request share the next one, and
    failed events go to the spool, which retries.
    """

    NAME = "Pub/Sub"
    WRONG_SETUP = (
        "Pub/Sub cannot be used (%s): can the credentials be read, does the topic exist, and may this service publish"
        " to it? Events are kept."
    )

    def __init__(self, topic: str, project: str, emulator: str | None = None) -> None:
        """Describe a topic by its id, or by its path if it belongs to another project; opens nothing."""
        self.path = topic if "/" in topic else f"projects/{project}/topics/{topic}"
        self._routing = (("x-goog-request-params", f"topic={self.path}"),)
        self._emulator = emulator
        self._client = LazyClient(self._open)

    def post(self, data_source: str, events: Sequence[bytes], _token: str | None = None) -> Reply:
        """Publish events while their clients wait."""
        return self.publish([(data_source, event) for event in events], PUBLISH_TIMEOUT)

    def post_batch(self, data_source: str, events: Sequence[bytes]) -> Reply:
        """Publish events for which no client waits."""
        return self.publish([(data_source, event) for event in events], BATCH_TIMEOUT)

    def publish(self, events: Sequence[tuple[str, bytes]], timeout: float, **attributes: str) -> Reply:
        """Publish events, each with its data source; the verdict TAKEN means that Pub/Sub has stored all of them."""
        deadline = time.monotonic() + timeout
        try:
            publish = self._client.get(timeout)
            for request in self._requests(events, attributes):
                publish(request, timeout=deadline - time.monotonic(), metadata=self._routing)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            return Reply(_VERDICTS.get(code, Verdict.LATER), f"Pub/Sub: {code.name}")
        except NotReady as error:
            return _not_ready(error.reason)
        return _OK

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Publish an event that a worker cannot deliver, with the reason. Raises SpoolUnavailable."""
        reply = self.publish([(data_source, event)], DEAD_LETTER_TIMEOUT, reason=reason)
        if reply.verdict is not Verdict.TAKEN:
            raise SpoolUnavailable(reply.reason)

    def check(self) -> str | None:
        """Return the problem of the topic for dead letters, or None; leaves a message in it."""
        try:
            self.add_dead_letter(NO_DATA_SOURCE, b'{"message":"a check"}', "check")
        except SpoolUnavailable as error:
            return f"nothing can be set aside ({error}): does the topic exist, and may this service publish to it?"
        return None

    def _requests(self, events: Sequence[tuple[str, bytes]], attributes: dict[str, str]) -> Iterator[PublishRequest]:
        request, size = PublishRequest(topic=self.path), 0
        messages = PublishRequest.pb(request).messages
        for data_source, event in events:
            if len(messages) == MAX_MESSAGES or (messages and size + len(event) > MAX_BYTES):
                yield request
                request, size = PublishRequest(topic=self.path), 0
                messages = PublishRequest.pb(request).messages
            messages.add(data=event, attributes={ATTRIBUTE: data_source, **attributes})
            size += len(event)
        yield request

    def _open(self) -> Callable[..., object]:
        channel: Any = _open_channel
        if self._emulator:
            channel = grpc.insecure_channel(self._emulator, options=CHANNEL)
        return PublisherGrpcTransport(channel=channel).publish


_OK = Reply(Verdict.TAKEN, "published", 202, RECEIVED)


def _not_ready(reason: BaseException | None) -> Reply:
    """Judge why the connection is not open. The reason names only the error's class; its message may quote secrets."""
    if reason is None:
        return Reply(Verdict.LATER, "Pub/Sub: not open yet")
    is_temporary = isinstance(reason, GoogleAuthError) and not isinstance(reason, DefaultCredentialsError)
    verdict = Verdict.LATER if is_temporary else Verdict.WRONG_SETUP
    return Reply(verdict, f"Google's credentials: {type(reason).__name__}")


def _open_channel(host: str, options: Sequence[tuple[str, Any]] = (), **credentials: Any) -> grpc.Channel:
    return PublisherGrpcTransport.create_channel(host, options=[*options, *CHANNEL], **credentials)
