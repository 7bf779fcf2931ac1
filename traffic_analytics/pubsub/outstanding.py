"""Hold a worker's outstanding events in memory, and turn undeliverable ones into dead letters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.pubsub.subscription import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.pubsub_v1.subscriber.message import Message

DEAD_LETTER_RETRY = 30.0
"""Pause after a dead letter could not be stored, in seconds; its message is delivered again afterwards."""


class DeadLetterQueue(Protocol):
    """Store of dead letters: the spool, or a topic."""

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Store a dead letter for the operator. Raises SpoolUnavailable."""


class DeadLetters:
    """Dead letters of a worker; while they cannot be stored, their messages are given back and block no others."""

    def __init__(
        self, queue: DeadLetterQueue, monotonic: Callable[[], float], on_failure: Callable[[str], None]
    ) -> None:
        self.count = 0
        self._queue = queue
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._not_before = monotonic()

    def add(self, message: Message, data_source: str, content: bytes, reason: str) -> bool:
        """Store content as a dead letter and acknowledge its message, or give the message back and return False."""
        if self._monotonic() < self._not_before:
            give_back([message], DEAD_LETTER_RETRY)
            return False
        failure = self._try(data_source, content, reason)
        if failure is not None:
            self._not_before = self._monotonic() + DEAD_LETTER_RETRY
            give_back([message], 2 * DEAD_LETTER_RETRY)  # after other messages, in case this one is the cause
            self._on_failure(failure)
            return False
        message.ack()
        self.count += 1
        return True

    def _try(self, data_source: str, content: bytes, reason: str) -> str | None:
        try:
            self._queue.add_dead_letter(data_source, content, reason)
        except SpoolUnavailable as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - otherwise its message would stay leased for good
            return type(error).__name__
        return None


class OutstandingEvent:
    """An event and its message."""

    __slots__ = ("event", "message", "since")

    def __init__(self, event: bytes, message: Message, since: float) -> None:
        self.event = event
        self.message = message
        self.since = since


class Outstanding:
    """Outstanding events of one data source, oldest first."""

    def __init__(self, data_source: str, dead_letters: DeadLetters) -> None:
        self.data_source = data_source
        self.events: deque[OutstandingEvent] = deque()
        self.size = 0
        """Size of all events, in bytes."""
        self._dead_letters = dead_letters

    def add(self, event: OutstandingEvent) -> None:
        """Append an event."""
        self.events.append(event)
        self.size += len(event.event)

    def since(self) -> float | None:
        """Return the time of arrival of the oldest event; None without events."""
        return self.events[0].since if self.events else None

    def first(self, max_events: int, max_bytes: int) -> list[OutstandingEvent]:
        """Return the oldest events, as many as fit into a batch, and at least one."""
        batch: list[OutstandingEvent] = []
        size = 0
        for each in self.events:
            size += len(each.event) + 1
            if batch and (len(batch) == max_events or size > max_bytes):
                break
            batch.append(each)
        return batch

    def drop_excess(self, max_events: int, max_bytes: int) -> list[Message]:
        """Drop the youngest events beyond these limits, but never all, and return their messages."""
        messages = []
        while len(self.events) > 1 and (len(self.events) > max_events or self.size > max_bytes):
            event = self.events.pop()
            self.size -= len(event.event)
            messages.append(event.message)
        return messages

    def drop_all(self) -> list[Message]:
        """Drop all events, and return their messages."""
        messages = [each.message for each in self.events]
        self.events.clear()
        self.size = 0
        return messages

    def acknowledge(self, events: Sequence[OutstandingEvent]) -> None:
        """Drop delivered events, which are the oldest, and acknowledge their messages."""
        for each in events:
            self._drop_oldest()
            each.message.ack()

    def dead_letter(self, event: OutstandingEvent, reason: str) -> bool:
        """Drop the oldest event; return False if it could not be stored as a dead letter and is delivered again."""
        self._drop_oldest()
        return self._dead_letters.add(event.message, self.data_source, event.event, reason)

    def renew_lease(self) -> None:
        """Do nothing: Google's client extends the leases of all messages."""

    def _drop_oldest(self) -> None:
        self.size -= len(self.events.popleft().event)
