"""A worker carries events from Pub/Sub to Tinybird, and acknowledges a message when its event has arrived there.

Invariants:

- Acknowledged means delivered, set aside with a reason, or a bot's. Whatever else happens to this process, Pub/Sub
  gives the message to somebody again; `payload.event_id` is what tells repeats apart.
- Held messages stay leased, however long Tinybird is away, and their number and bytes are bounded.
- No data source can keep another from being delivered: one that rests holds at most half of what may be held.
- No address leaves memory: a hit that came unenriched is enriched here, and what is set aside is stripped of addresses.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from traffic_analytics import message as messages
from traffic_analytics.enrich import enrich
from traffic_analytics.errors import NoEvent, NotSubscribed, SaltUnavailable, SpoolUnavailable
from traffic_analytics.page_hit import DATA_SOURCES
from traffic_analytics.subscription import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.pubsub_v1.subscriber.message import Message

    from traffic_analytics.batches import Batches
    from traffic_analytics.salts import Salts
    from traffic_analytics.subscription import Subscription
    from traffic_analytics.user_agent import UserAgent

_log = logging.getLogger(__name__)

LONGEST_LOOK = 0.25
"""Seconds for which a look for new messages waits at most, so that an order to stop is not kept waiting."""
REOPEN_AFTER = 5.0
SALT_AGAIN_AFTER = 10.0
"""Seconds until a hit comes again for which there was no salt."""
ASIDE_AGAIN_AFTER = 5.0
HEARTBEAT_EVERY = 30.0
FAREWELL = 6.0
"""Seconds for delivering what is held when told to stop: Cloud Run kills after 10, of which gunicorn takes 2."""


class AsidePlace(Protocol):
    """Where goes what cannot be delivered."""

    def keep_aside(self, data_source: str, event: bytes, reason: str) -> None:
        """Keep it for an operator. Raises SpoolUnavailable."""


class Held:
    """An event, and the message that brought it."""

    __slots__ = ("event", "message", "since")

    def __init__(self, event: bytes, message: Message, since: float) -> None:
        self.event = event
        self.message = message
        self.since = since


class Pending:
    """The events of one data source, oldest first; the place where they wait is memory, and Pub/Sub beneath it."""

    def __init__(self, data_source: str, aside: AsidePlace) -> None:
        self.data_source = data_source
        self.events: deque[Held] = deque()
        self.set_aside_count = 0
        self._aside = aside

    def first(self, most: int, most_bytes: int) -> list[Held]:
        """Return the oldest events, as many as fit into a batch; one at least."""
        chosen: list[Held] = []
        size = 0
        for each in self.events:
            size += len(each.event) + 1
            if chosen and (len(chosen) == most or size > most_bytes):
                break
            chosen.append(each)
        return chosen

    def beyond(self, most: int) -> list[Held]:
        """Let go of the youngest events, as far as there are more than `most`."""
        return [self.events.pop() for _ in range(len(self.events) - most)]

    def acknowledge(self, events: Sequence[Held]) -> None:
        """Let go of events that Tinybird has. A batch is settled from its beginning, so these are the oldest."""
        for each in events:
            self.events.popleft()
            each.message.ack()

    def set_aside(self, event: Held, reason: str) -> None:
        """Keep an event for an operator. Raises SpoolUnavailable; then it is still held."""
        self._aside.keep_aside(self.data_source, event.event, reason)
        self.set_aside_count += 1
        self.acknowledge([event])

    def hold(self) -> None:
        """Need nothing: the client extends the leases of all messages."""


class Worker:
    """Takes messages, batches their events, has them delivered, acknowledges; used by one thread."""

    def __init__(
        self,
        subscription: Subscription,
        batches: Batches,
        salts: Salts,
        aside: AsidePlace,
        *,
        batch_size: int,
        flush_interval: float,
        most_messages: int,
        parse_user_agent: Callable[[str], UserAgent],
        new_event_id: Callable[[], str],
        monotonic: Callable[[], float],
        show: Callable[[int, int, int, bool], None],
    ) -> None:
        """Put the parts together; `show` is told of messages: how many came, are held, were set aside, and if any can come."""
        self._show = show
        self._shown: tuple[int, int, int, bool] | None = None
        self._subscription = subscription
        self._batches = batches
        self._salts = salts
        self._aside = aside
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._most_messages = most_messages
        self._parse_user_agent = parse_user_agent
        self._new_event_id = new_event_id
        self._monotonic = monotonic
        self._pending = {name: Pending(name, aside) for name in DATA_SOURCES}
        self._open_from = 0.0
        self._aside_from = 0.0
        self._next_heartbeat = monotonic() + HEARTBEAT_EVERY
        self._received = 0
        self._bots = 0
        self._no_events = 0
        self._problem: str | None = "not subscribed yet"

    def tick(self) -> float:
        """Take what has come and deliver what is due; returns how many seconds may pass until the next call."""
        if self._subscription.inbox.ending.is_set():
            self._end_stream()
        is_open = self._keep_open()
        if is_open:
            self._take(self._subscription.inbox.take(self._patience()))
            for pending in self._pending.values():
                self._deliver_due(pending)
        self._tell()
        self._beat()
        return 0.0 if is_open else LONGEST_LOOK

    def finish(self) -> None:
        """Deliver what is held, as far as Tinybird takes it within some seconds, and give back the rest."""
        give_up = self._monotonic() + FAREWELL
        self._subscription.stop_taking()
        self._take(self._subscription.inbox.take(0.0))
        delivered_before = self._batches.delivered
        resting = self._batches.resting()
        for name, pending in self._pending.items():
            while pending.events and name not in resting and self._monotonic() < give_up and self._deliver(pending):
                pass
        left = self._held()
        self._subscription.close(left, timeout=2.0)
        _log.info(
            "the worker stops: %d events delivered at the last, %d given back",
            self._batches.delivered - delivered_before,
            len(left),
            extra={"event": "WorkerStopped", "delivered": self._batches.delivered, "given_back": len(left)},
        )

    def check(self) -> None:
        """Find out whether messages may come. Raises NotSubscribed."""
        if self._problem is not None:
            raise NotSubscribed(f"no messages come: {self._problem}")

    # -- the stream

    def _keep_open(self) -> bool:
        now = self._monotonic()
        reason = self._subscription.ended()
        if reason is None and not self._subscription.is_open and now >= self._open_from:
            reason = self._subscription.open()
            if reason is None:
                self._problem = None
        if reason is not None:
            self._open_from = now + REOPEN_AFTER
            self._problem = reason
            self._batches.complain(
                "no messages come: %s. Does the subscription exist, and may this service consume it?",
                reason,
                event="SubscriptionUnavailable",
            )
        return self._subscription.is_open

    def _end_stream(self) -> None:
        """Let a stream go that ended by itself: deliver what can be, for what it brought cannot be kept leased."""
        self._take(self._subscription.inbox.take(0.0))
        for pending in self._pending.values():
            while pending.events and self._deliver(pending):
                pass
        self._subscription.inbox.done(self._held())

    def _held(self) -> list[Message]:
        """Forget what is held, and return its messages."""
        left = [each.message for pending in self._pending.values() for each in pending.events]
        for pending in self._pending.values():
            pending.events.clear()
        return left

    def _patience(self) -> float:
        """Return how long to wait for messages: until a batch is due, but not long."""
        now = self._monotonic()
        if now < self._aside_from:
            return LONGEST_LOOK
        resting = self._batches.resting()
        oldest = [
            pending.events[0].since for name, pending in self._pending.items() if pending.events and name not in resting
        ]
        due = min(oldest, default=now + LONGEST_LOOK) + self._flush_interval
        return min(max(0.0, due - now), LONGEST_LOOK)

    # -- messages

    def _take(self, arrived: Sequence[Message]) -> None:
        now = self._monotonic()
        if arrived:
            _log.debug("%d messages came", len(arrived), extra={"event": "MessagesTaken", "count": len(arrived)})
        for message in arrived:
            self._received += 1
            try:
                self._open_message(message, now)
            except NoEvent as error:
                self._keep_aside(message, str(error))
            except SaltUnavailable as error:
                give_back([message], SALT_AGAIN_AFTER)
                self._batches.complain("hits wait for a salt: %s", error, event="SaltUnavailable")
            except Exception as error:  # noqa: BLE001 - or this message, and those behind it, would stay leased for good
                _log.error("a defect of this service", exc_info=error, extra={"event": "UnhandledError"})
                self._keep_aside(message, type(error).__name__)

    def _open_message(self, message: Message, now: float) -> None:
        content = messages.read(message.data, message.attributes)
        if isinstance(content, messages.Unenriched):
            agent = self._parse_user_agent(content.hit.user_agent)
            if agent.device == "bot":
                self._bots += 1
                message.ack()
                return
            event = enrich(
                content.hit,
                agent=agent,
                salt=self._salts.get_or_create(content.hit.site_uuid, content.arrived.date()),
                address=content.address,
                now=content.arrived,
                new_event_id=self._new_event_id,
            )
            content = messages.Published(content.hit.query.name, msgspec.json.encode(event))
        self._pending[content.data_source].events.append(Held(content.event, message, now))

    def _keep_aside(self, message: Message, reason: str) -> None:
        try:
            self._aside.keep_aside(DATA_SOURCES[0], messages.without_address(message.data), reason)
        except SpoolUnavailable as error:
            give_back([message], ASIDE_AGAIN_AFTER)
            self._batches.complain("nothing can be set aside: %s", error, event="SpoolUnavailable")
            return
        message.ack()
        self._no_events += 1
        _log.error(
            "a message was set aside: %s",
            reason,
            extra={"event": "MessageSetAside", "message_id": message.message_id, "bytes": len(message.data)},
        )

    # -- batches

    def _deliver_due(self, pending: Pending) -> None:
        now = self._monotonic()
        rest = self._batches.resting().get(pending.data_source)
        if rest is not None:
            give_back([each.message for each in pending.beyond(self._most_messages // 2)], rest)
        elif now >= self._aside_from:
            while self._is_due(pending, now) and self._deliver(pending):
                pass

    def _is_due(self, pending: Pending, now: float) -> bool:
        if len(pending.events) >= self._batch_size:
            return True
        return bool(pending.events) and pending.events[0].since + self._flush_interval <= now

    def _deliver(self, pending: Pending) -> bool:
        """Deliver one batch; False if that is of no use now."""
        batch = pending.first(self._batch_size, self._batches.max_bytes)
        try:
            return self._batches.deliver(pending.data_source, batch, pending)
        except SpoolUnavailable as error:
            self._aside_from = self._monotonic() + ASIDE_AGAIN_AFTER
            self._batches.complain("nothing can be set aside: %s", error, event="SpoolUnavailable")
            return False

    def _aside_count(self) -> int:
        return self._no_events + sum(each.set_aside_count for each in self._pending.values())

    def _tell(self) -> None:
        held = sum(len(each.events) for each in self._pending.values())
        counts = (self._received, held, self._aside_count(), self._problem is None)
        if counts != self._shown:
            self._shown = counts
            self._show(*counts)

    def _beat(self) -> None:
        now = self._monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_EVERY
        held = [each for pending in self._pending.values() for each in pending.events]
        _log.info(
            "the worker has delivered %d events",
            self._batches.delivered,
            extra={
                "event": "WorkerHeartbeat",
                "received": self._received,
                "delivered": self._batches.delivered,
                "quarantined": self._batches.quarantined,
                "held": len(held),
                "oldest_seconds": round(now - min((each.since for each in held), default=now)),
                "bots": self._bots,
                "set_aside": self._aside_count(),
            },
        )
