"""A Pub/Sub topic takes events for workers to deliver; what it has answered for is as safe as in the spool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PublishRequest

from traffic_analytics.delivery.target import NO_DATA_SOURCE, Reply, Verdict
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.hits.page_hit import RECEIVED
from traffic_analytics.pubsub.message import ATTRIBUTE
from traffic_analytics.runtime.group_commit import CommitFailed, GroupCommit
from traffic_analytics.runtime.lazy_client import LazyClient, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PUBLISH_TIMEOUT = 2.0
"""Seconds that a browser waits for Pub/Sub, and for those before it, until its hit goes to the spool."""
BATCH_TIMEOUT = 20.0
"""Seconds for all requests of a batch; whoever holds its events holds them for longer."""
ASIDE_TIMEOUT = 5.0
"""Seconds, in which a worker does nothing else."""
MOST_MESSAGES, MOST_BYTES = 1000, 9_000_000
"""What one request may hold: Pub/Sub takes 1 000 messages and 10 MB, of which some go to names and framing."""
CHANNEL = (
    ("grpc.max_reconnect_backoff_ms", 5_000),  # by itself it would look for a lost Pub/Sub every two minutes
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

_VERDICTS = {
    # About the name, or a schema: an event of ours is neither empty nor, with BODY_LIMIT, near 10 MB.
    grpc.StatusCode.INVALID_ARGUMENT: Verdict.WRONG_SETUP,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Verdict.TOO_FAST,
    grpc.StatusCode.NOT_FOUND: Verdict.WRONG_SETUP,
    grpc.StatusCode.PERMISSION_DENIED: Verdict.WRONG_SETUP,
    grpc.StatusCode.UNAUTHENTICATED: Verdict.WRONG_SETUP,
    grpc.StatusCode.FAILED_PRECONDITION: Verdict.WRONG_SETUP,
}
"""What an answer means for the events, which is never that one of them is guilty; all others are passing."""


class PubsubTopic:
    """One topic, reached over one gRPC connection of each process, which opens with the first event.

    The generated transport is used as it is. The client that Google builds on top of it batches by waiting, starts a
    thread for each batch and repeats in the background what its caller has given up; here threads that publish at the
    same time share a request, and what fails goes to the spool, which has its own way of trying again.
    """

    NAME = "Pub/Sub"
    WRONG_SETUP = (
        "Pub/Sub cannot be used (%s): can the credentials be read, does the topic exist, and may this service publish"
        " to it? Events are kept."
    )

    def __init__(self, topic: str, project: str, emulator: str | None = None) -> None:
        """Describe a topic by its id, or by its path if it belongs to another project; nothing is opened yet."""
        self.path = topic if "/" in topic else f"projects/{project}/topics/{topic}"
        self._routing = (("x-goog-request-params", f"topic={self.path}"),)
        self._emulator = emulator
        self._opening = LazyClient(self._open)
        self._publishes: GroupCommit[tuple[str, bytes, float], Reply] = GroupCommit(
            self._publish_awaited, is_failure=lambda reply: reply.status != _OK.status
        )

    def post(self, data_source: str, event: bytes, _token: str | None = None) -> Reply:
        """Publish one event while a browser waits for it, together with those of other threads."""
        try:
            return self._publishes.add((data_source, event, time.monotonic()))
        except CommitFailed as error:
            return Reply(Verdict.LATER, str(error))

    def post_batch(self, data_source: str, events: Sequence[bytes]) -> Reply:
        """Publish events for which nobody waits."""
        return self.publish([(data_source, event) for event in events], BATCH_TIMEOUT)

    def publish(self, events: Sequence[tuple[str, bytes]], timeout: float, **attributes: str) -> Reply:
        """Publish events, each with its data source; taken means that Pub/Sub has all of them."""
        give_up = time.monotonic() + timeout
        try:
            publish = self._opening.get(timeout)
            for request in self._requests(events, attributes):
                publish(request, timeout=give_up - time.monotonic(), metadata=self._routing)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            return Reply(_VERDICTS.get(code, Verdict.LATER), f"Pub/Sub: {code.name}")
        except NotReady as error:
            return _not_open(error.reason)
        return _OK

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Publish what a worker cannot deliver, with the reason. Raises SpoolUnavailable if that fails, too."""
        reply = self.publish([(data_source, event)], ASIDE_TIMEOUT, reason=reason)
        if reply.verdict is not Verdict.TAKEN:
            raise SpoolUnavailable(reply.reason)

    def try_keeping(self) -> str | None:
        """Say what is wrong with the topic, if anything is; leaves a message in it."""
        try:
            self.add_dead_letter(NO_DATA_SOURCE, b'{"message":"a check"}', "check")
        except SpoolUnavailable as error:
            return f"nothing can be set aside ({error}): does the topic exist, and may this service publish to it?"
        return None

    def _publish_awaited(self, awaited: list[tuple[str, bytes, float]]) -> Reply:
        _, _, longest_since = awaited[0]
        events = [(data_source, event) for data_source, event, _ in awaited]
        return self.publish(events, longest_since + PUBLISH_TIMEOUT - time.monotonic())

    def _requests(self, events: Sequence[tuple[str, bytes]], attributes: dict[str, str]) -> Iterator[PublishRequest]:
        request, size = PublishRequest(topic=self.path), 0
        messages = PublishRequest.pb(request).messages
        for data_source, event in events:
            if len(messages) == MOST_MESSAGES or (messages and size + len(event) > MOST_BYTES):
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


def _not_open(reason: BaseException | None) -> Reply:
    """Say what it means that credentials cannot be had, and only by the error's class: its words may quote secrets."""
    if reason is None:
        return Reply(Verdict.LATER, "Pub/Sub: not open yet")
    passing = isinstance(reason, GoogleAuthError) and not isinstance(reason, DefaultCredentialsError)
    verdict = Verdict.LATER if passing else Verdict.WRONG_SETUP
    return Reply(verdict, f"Google's credentials: {type(reason).__name__}")


def _open_channel(host: str, options: Sequence[tuple[str, Any]] = (), **credentials: Any) -> grpc.Channel:
    return PublisherGrpcTransport.create_channel(host, options=[*options, *CHANNEL], **credentials)
