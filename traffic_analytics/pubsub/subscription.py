"""Receive messages from a Pub/Sub subscription; Google's client extends the lease of each until it is settled."""

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

MAX_LEASE = 31 * 86_400.0
"""Time for which a lease is extended, in seconds: the longest retention of a message in Pub/Sub."""
SHUTDOWN_TIMEOUT = 60.0
"""Time for which an ended stream waits for the worker to call `done`, in seconds."""
MIN_DELAY = 1.0
"""Shortest delay of a message that is given back, in seconds. Without a delay Pub/Sub would send it down the ending
stream, and redeliver it only after its lease has expired."""
MAX_DELAY = 600
"""Longest delay of a message that is given back, in seconds: Pub/Sub's limit."""
READER = "Thread-ConsumeBidirectionalStream"
"""Name that google-api-core gives to the thread that reads a stream. It is private: a test holds it."""
READER_GRACE = 2.0
"""Time for a stream to end after its reader thread, in seconds."""
LEASE = 10
"""Length of a lease, in seconds; the messages of a killed worker are redelivered after it."""


class Inbox(Scheduler):  # type: ignore[misc] # Google's client is not typed
    """Queue of arrived messages, in place of Google's scheduler, which starts a callback thread for each message.

    When the stream ends, for any reason, leases and acknowledgements go on until the worker calls `done`.
    """

    def __init__(self) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._done = threading.Event()
        self.ending = threading.Event()

    @property
    def queue(self) -> queue.Queue[Any]:
        """Queue of acknowledgements, read by Google's client."""
        return self._requests

    def schedule(self, _callback: Callable[..., Any], message: Message) -> None:
        """Queue a message."""
        self._messages.put(message)

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Message]:  # noqa: ARG002
        """Wait for `done`. Return no messages: the client would give them back to the ending stream."""
        self.ending.set()
        self._done.wait(SHUTDOWN_TIMEOUT)
        give_back(self.take(0.0), MIN_DELAY)
        return []

    def take(self, timeout: float) -> list[Message]:
        """Return the queued messages; wait at most `timeout` seconds for the first."""
        messages = []
        try:
            messages.append(self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait())
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def done(self, unsettled: Sequence[Message]) -> None:
        """End the wait of `shutdown`: give back the unsettled messages; all others are acknowledged."""
        give_back(unsettled, MIN_DELAY)
        self._done.set()


class Subscription:
    """Stream of messages, limited in number and bytes; used by one thread."""

    def __init__(
        self,
        subscription: str,
        project: str,
        emulator: str | None = None,
        *,
        max_messages: int,
        max_bytes: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Describe a subscription by its id or path; opens nothing."""
        self.path = subscription if "/" in subscription else f"projects/{project}/subscriptions/{subscription}"
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.inbox = Inbox()
        self._emulator = emulator
        self._monotonic = monotonic
        self._client: SubscriberClient | None = None
        self._stream: StreamingPullFuture | None = None
        self._reader: threading.Thread | None = None
        self._reader_missing_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether messages may arrive."""
        return self._stream is not None

    def open(self) -> str | None:
        """Open a stream; return the reason if that fails."""
        self.inbox = Inbox()
        try:
            self._client = self._make_client()
            reason = _check(self._client, self.path)
            if reason is None:
                threads_before = set(threading.enumerate())
                self._stream = self._client.subscribe(
                    self.path, callback=_no_callback, flow_control=self._flow(), scheduler=self.inbox
                )
                started = [each for each in threading.enumerate() if each not in threads_before and each.name == READER]
                self._reader, self._reader_missing_since = (started[0] if started else None), None
        except Exception as error:  # noqa: BLE001 - unreadable credentials raise errors of any class
            reason = f"it cannot be opened: {type(error).__name__}"
        if reason is not None:
            self._close_client()
        return reason

    def ended(self) -> str | None:
        """Return why the stream has ended, or None while it is open or waits for `done`."""
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
        return "its stream was closed" if self._reader_missing_since is None else "the thread that read its stream died"

    def close(self, unsettled: Sequence[Message], timeout: float) -> None:
        """End the stream, give back the unsettled messages, and wait until acknowledgements have been sent."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.cancel()
        self.inbox.done(unsettled)
        with contextlib.suppress(Exception):  # messages without an acknowledgement are redelivered
            stream.result(timeout)
        self._close_client()

    def stop_receiving(self) -> None:
        """Receive no more messages; outstanding ones stay leased."""
        if self._stream is not None:
            self._stream.cancel()

    def check(self) -> str | None:
        """Return the problem of the subscription, or None; receives no message."""
        try:
            client = self._make_client()
        except Exception as error:  # noqa: BLE001 - as above
            return f"it cannot be opened: {type(error).__name__}"
        try:
            return _check(client, self.path)
        finally:
            client.close()

    def _end_without_reader(self, stream: StreamingPullFuture) -> None:
        """End a stream whose reader thread has died, as after a defect of Google's client, which does not report it."""
        if self._reader is None or self._reader.is_alive() or self.inbox.ending.is_set():
            return
        now = self._monotonic()
        if self._reader_missing_since is None:
            self._reader_missing_since = now
        elif now - self._reader_missing_since > READER_GRACE:
            stream.cancel()

    def _flow(self) -> FlowControl:
        return FlowControl(
            max_messages=self.max_messages,
            max_bytes=self.max_bytes,
            max_lease_duration=MAX_LEASE,
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


def _check(client: SubscriberClient, path: str) -> str | None:
    try:
        # No message has this id: the request only checks the permission to consume.
        client.modify_ack_deadline(
            subscription=path, ack_ids=["none"], ack_deadline_seconds=10, timeout=5.0, retry=None
        )
    except (NotFound, PermissionDenied, Unauthenticated) as error:
        return f"{type(error).__name__}: does it exist, and may this service consume it?"
    except (DeadlineExceeded, ServiceUnavailable, GoogleAuthError) as error:
        return f"it cannot be reached: {type(error).__name__}"
    except GoogleAPICallError:
        return None  # an error about the message, which does not exist
    return None


def give_back(messages: Iterable[Message], seconds: float) -> None:
    """Have Pub/Sub redeliver messages, to any worker, after a delay in seconds."""
    for message in messages:
        message.modify_ack_deadline(round(min(max(seconds, MIN_DELAY), MAX_DELAY)))
        message.drop()


def _no_callback(_message: Message) -> None:
    """Never called: the inbox receives messages itself."""
