"""Events that a worker holds wait in its memory, with Pub/Sub beneath it; what never goes through is kept aside."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.pubsub.subscription import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.pubsub_v1.subscriber.message import Message

ASIDE_AGAIN_AFTER = 30.0
"""Seconds for which nothing is kept aside after that has failed; messages that are to be come again then."""


class DeadLetterQueue(Protocol):
    """Where goes what cannot be delivered."""

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        """Keep it for an operator. Raises SpoolUnavailable."""


class DeadLetters:
    """Keeps things aside in a place that may be full or away; then their messages come again, and hold up nobody."""

    def __init__(
        self, place: DeadLetterQueue, monotonic: Callable[[], float], on_failure: Callable[[str], None]
    ) -> None:
        self.count = 0
        self._place = place
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._not_before = monotonic()

    def keep(self, message: Message, data_source: str, content: bytes, reason: str) -> bool:
        """Keep content for an operator and acknowledge its message, or give that back and return False."""
        if self._monotonic() < self._not_before:
            give_back([message], ASIDE_AGAIN_AFTER)
            return False
        failure = self._try(data_source, content, reason)
        if failure is not None:
            self._not_before = self._monotonic() + ASIDE_AGAIN_AFTER
            give_back([message], 2 * ASIDE_AGAIN_AFTER)  # after others, in case it is to blame
            self._on_failure(failure)
            return False
        message.ack()
        self.count += 1
        return True

    def _try(self, data_source: str, content: bytes, reason: str) -> str | None:
        try:
            self._place.add_dead_letter(data_source, content, reason)
        except SpoolUnavailable as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - or its message would stay leased for good
            return type(error).__name__
        return None


class OutstandingEvent:
    """An event, and the message that brought it."""

    __slots__ = ("event", "message", "since")

    def __init__(self, event: bytes, message: Message, since: float) -> None:
        self.event = event
        self.message = message
        self.since = since


class Outstanding:
    """The events of one data source, oldest first."""

    def __init__(self, data_source: str, aside: DeadLetters) -> None:
        self.data_source = data_source
        self.events: deque[OutstandingEvent] = deque()
        self.size = 0
        """Bytes of all events."""
        self._aside = aside

    def add(self, event: OutstandingEvent) -> None:
        """Let an event wait."""
        self.events.append(event)
        self.size += len(event.event)

    def since(self) -> float | None:
        """Return when the oldest came, if there is any."""
        return self.events[0].since if self.events else None

    def first(self, most: int, most_bytes: int) -> list[OutstandingEvent]:
        """Return the oldest events, as many as fit into a batch; one at least."""
        chosen: list[OutstandingEvent] = []
        size = 0
        for each in self.events:
            size += len(each.event) + 1
            if chosen and (len(chosen) == most or size > most_bytes):
                break
            chosen.append(each)
        return chosen

    def beyond(self, most: int, most_bytes: int) -> list[Message]:
        """Let go of the youngest events, as far as there are more than this, and return their messages."""
        let_go = []
        while len(self.events) > 1 and (len(self.events) > most or self.size > most_bytes):
            event = self.events.pop()
            self.size -= len(event.event)
            let_go.append(event.message)
        return let_go

    def all(self) -> list[Message]:
        """Let go of all events, and return their messages."""
        messages = [each.message for each in self.events]
        self.events.clear()
        self.size = 0
        return messages

    def acknowledge(self, events: Sequence[OutstandingEvent]) -> None:
        """Let go of events that Tinybird has. A batch is settled from its beginning, so these are the oldest."""
        for each in events:
            self._let_go()
            each.message.ack()

    def dead_letter(self, event: OutstandingEvent, reason: str) -> bool:
        """Let go of the oldest event; False if it could not be kept for an operator and comes again."""
        self._let_go()
        return self._aside.keep(event.message, self.data_source, event.event, reason)

    def renew_lease(self) -> None:
        """Need nothing: the client extends the leases of all messages."""

    def _let_go(self) -> None:
        self.size -= len(self.events.popleft().event)
