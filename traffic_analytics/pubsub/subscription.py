"""A message stays leased as long as we hold it: Google's client extends its lease until we are done with it."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core.exceptions import (
    DeadlineExceeded,
    GoogleAPICallError,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    Unauthenticated,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler
from google.cloud.pubsub_v1.types import FlowControl
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
    from google.cloud.pubsub_v1.subscriber.message import Message

LONGEST_LEASE = 31 * 86_400.0
"""Seconds after which a lease would no longer be extended: as long as Pub/Sub keeps a message at most."""
LONGEST_FAREWELL = 60.0
"""Seconds that a stream waits for us to be done with its messages, if nobody says that we are."""
AFTER_FAREWELL = 1.0
"""Seconds until others get what a stream gives back at its end: at once, Pub/Sub would send it down that very stream,
and then wait for an answer until the lease has run out."""
LONGEST_REST = 600
"""Seconds for which a message can be given back at most."""
READER = "Thread-ConsumeBidirectionalStream"
"""What Google's client calls the thread that reads a stream."""
READER_MISSED_AFTER = 2.0
"""Seconds that a stream may take to end after its reader has."""
LEASE = 10
"""Seconds for which a lease is extended at a time, and after which others get what a killed worker held."""


class Inbox(Scheduler):  # type: ignore[misc] # Google's client is not typed
    """Takes messages off the stream as they come.

    Google's own scheduler has a thread of a pool call back for each. This one only queues them; and when the stream
    ends, be it asked for or not, it keeps leases and acknowledgements going until whoever holds messages says that it
    is done with them.
    """

    def __init__(self) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._done = threading.Event()
        self.ending = threading.Event()

    @property
    def queue(self) -> queue.Queue[Any]:
        """Where messages put their acknowledgements for the client."""
        return self._requests

    def schedule(self, _callback: Callable[..., Any], message: Message) -> None:
        """Queue a message."""
        self._messages.put(message)

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Message]:  # noqa: ARG002
        """Wait until the messages are done with; returns none, or the client would give them to its own stream."""
        self.ending.set()
        self._done.wait(LONGEST_FAREWELL)
        give_back(self.take(0.0), AFTER_FAREWELL)
        return []

    def take(self, timeout: float) -> list[Message]:
        """Return what has come, after waiting for it at most `timeout` seconds."""
        messages = []
        try:
            messages.append(self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait())
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def done(self, left: Sequence[Message]) -> None:
        """Say that all messages were acknowledged but those that are left, which others may have."""
        give_back(left, AFTER_FAREWELL)
        self._done.set()


class Subscription:
    """One stream of messages, bounded in their number and bytes; used by one thread."""

    def __init__(
        self,
        subscription: str,
        project: str,
        emulator: str | None = None,
        *,
        most_messages: int,
        most_bytes: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Describe a subscription by its id, or by its path; nothing is opened yet."""
        self.path = subscription if "/" in subscription else f"projects/{project}/subscriptions/{subscription}"
        self.most_messages = most_messages
        self.most_bytes = most_bytes
        self.inbox = Inbox()
        self._emulator = emulator
        self._monotonic = monotonic
        self._client: SubscriberClient | None = None
        self._stream: StreamingPullFuture | None = None
        self._reader: threading.Thread | None = None
        self._reader_gone_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages may come."""
        return self._stream is not None

    def open(self) -> str | None:
        """Begin a stream; returns why that failed."""
        self.inbox = Inbox()
        try:
            self._client = self._make_client()
            reason = _look(self._client, self.path)
            if reason is None:
                others = set(threading.enumerate())
                self._stream = self._client.subscribe(
                    self.path, callback=_no_callback, flow_control=self._flow(), scheduler=self.inbox
                )
                started = [each for each in threading.enumerate() if each not in others and each.name == READER]
                self._reader, self._reader_gone_since = (started[0] if started else None), None
        except Exception as error:  # noqa: BLE001 - credentials that cannot be read come to anything
            reason = f"it cannot be opened: {type(error).__name__}"
        if reason is not None:
            self._close_client()
        return reason

    def ended(self) -> str | None:
        """Return why the stream has ended, if it has; until `done` was said it goes on holding messages."""
        if self._stream is None:
            return None
        if not self._stream.done():
            self._end_without_reader(self._stream)
            return None
        error = self._stream.exception()
        self._stream = None
        self._close_client()
        if error is not None:
            return type(error).__name__
        return "its stream was closed" if self._reader_gone_since is None else "the thread that read its stream died"

    def close(self, left: Sequence[Message], timeout: float) -> None:
        """End the stream, give back what is left, and wait until acknowledgements have gone out."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.cancel()
        self.inbox.done(left)
        with contextlib.suppress(Exception):  # what was not acknowledged comes again
            stream.result(timeout)
        self._close_client()

    def stop_taking(self) -> None:
        """Let no more messages come; those that are held stay leased."""
        if self._stream is not None:
            self._stream.cancel()

    def look(self) -> str | None:
        """Say what is wrong with the subscription, if anything is; takes no message."""
        try:
            client = self._make_client()
        except Exception as error:  # noqa: BLE001 - as above
            return f"it cannot be opened: {type(error).__name__}"
        try:
            return _look(client, self.path)
        finally:
            client.close()

    def _end_without_reader(self, stream: StreamingPullFuture) -> None:
        """End a stream that nobody reads any more, as after a defect of Google's client, which says nothing of it."""
        if self._reader is None or self._reader.is_alive() or self.inbox.ending.is_set():
            return
        now = self._monotonic()
        if self._reader_gone_since is None:
            self._reader_gone_since = now
        elif now - self._reader_gone_since > READER_MISSED_AFTER:
            stream.cancel()

    def _flow(self) -> FlowControl:
        return FlowControl(
            max_messages=self.most_messages,
            max_bytes=self.most_bytes,
            max_lease_duration=LONGEST_LEASE,
            max_duration_per_lease_extension=LEASE,
        )

    def _make_client(self) -> SubscriberClient:
        if self._emulator is None:
            return SubscriberClient()
        return SubscriberClient(transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(self._emulator)))

    def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _look(client: SubscriberClient, path: str) -> str | None:
    try:
        # Asks for nothing but the right to consume: no message has this id.
        client.modify_ack_deadline(
            subscription=path, ack_ids=["none"], ack_deadline_seconds=10, timeout=5.0, retry=None
        )
    except (NotFound, PermissionDenied, Unauthenticated) as error:
        return f"{type(error).__name__}: does it exist, and may this service consume it?"
    except (DeadlineExceeded, ServiceUnavailable, GoogleAuthError) as error:
        return f"it cannot be reached: {type(error).__name__}"
    except GoogleAPICallError:
        return None  # of the message
    return None


def give_back(messages: Iterable[Message], seconds: float) -> None:
    """Let others, or us, have messages again after some seconds."""
    for message in messages:
        message.modify_ack_deadline(round(min(max(seconds, AFTER_FAREWELL), LONGEST_REST)))
        message.drop()


def _no_callback(_message: Message) -> None:
    """Never called: the inbox takes messages itself."""
