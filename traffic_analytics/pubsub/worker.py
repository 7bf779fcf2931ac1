"""A worker carries events from Pub/Sub to Tinybird, and acknowledges a message when its event has arrived there.

Invariants:

- Acknowledged means delivered, set aside with a reason, or a bot's. Whatever else happens to this process, Pub/Sub
  gives the message to somebody again; `payload.event_id` is what tells repeats apart.
- OutstandingEvent messages stay leased, however long Tinybird is away, and their number and bytes are bounded.
- Nothing keeps anything else from being delivered: a data source that rests holds at most half of what may be held,
  and a message that can be neither delivered nor set aside is given back for a while.
- No address leaves memory: a hit that came unenriched is enriched here, and what is set aside is stripped of addresses.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

import msgspec

from traffic_analytics.delivery.target import DATA_SOURCES, NO_DATA_SOURCE
from traffic_analytics.errors import NoEvent, NotSubscribed, SaltUnavailable
from traffic_analytics.hits.enrich import enrich
from traffic_analytics.pubsub import message as messages
from traffic_analytics.pubsub.outstanding import DeadLetters, Outstanding, OutstandingEvent
from traffic_analytics.pubsub.subscription import LONGEST_REST, give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.pubsub_v1.subscriber.message import Message

    from traffic_analytics.delivery.batch_sender import BatchSender
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.pubsub.outstanding import DeadLetterQueue
    from traffic_analytics.pubsub.subscription import Subscription
    from traffic_analytics.salts.cache import Salts

_log = logging.getLogger(__name__)

LONGEST_LOOK = 0.25
"""Seconds for which a look for new messages waits at most, so that an order to stop is not kept waiting."""
REOPEN_AFTER = 5.0
SALT_AGAIN_AFTER = 10.0
"""Seconds until a hit comes again for which there was no salt."""
LONGEST_TURN = 10.0
"""Seconds until the messages come again at most that are too many while their data source rests: until then they count
as held here for Pub/Sub, and others would not come."""
HEARTBEAT_EVERY = 30.0
FAREWELL = 6.0
"""Seconds for delivering what is held when told to stop: Cloud Run kills after 10, of which gunicorn takes 2."""


class Worker:
    """Takes messages, batches their events, has them delivered, acknowledges; used by one thread."""

    def __init__(
        self,
        subscription: Subscription,
        batches: BatchSender,
        give_up: threading.Event,
        salts: Salts,
        aside: DeadLetterQueue,
        *,
        batch_size: int,
        flush_interval: float,
        parse_user_agent: Callable[[str], UserAgent],
        monotonic: Callable[[], float],
        show: Callable[[int, int, int, bool], None],
        on_bot: Callable[[], None] = lambda: None,
    ) -> None:
        """Put the parts together.

        `give_up` ends what `batches` does. `show` is told of messages: how many came, are held, were set aside, and
        if any can come.
        """
        self._subscription = subscription
        self._batches = batches
        self._give_up = give_up
        self._hurrying = threading.Event()
        self._salts = salts
        self._aside = DeadLetters(aside, monotonic, self._nothing_kept_aside)
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._parse_user_agent = parse_user_agent
        self._monotonic = monotonic
        self._show = show
        self._on_bot = on_bot
        self._shown: tuple[int, int, int, bool] | None = None
        self._pending = {name: Outstanding(name, self._aside) for name in DATA_SOURCES}
        self._open_from = 0.0
        self._next_heartbeat = monotonic() + HEARTBEAT_EVERY
        self._received = 0
        self._bots = 0
        self._problem: str | None = "not subscribed yet"

    def tick(self) -> float:
        """Take what has come and deliver what is due; returns how many seconds may pass until the next call."""
        try:
            if self._subscription.is_open and self._subscription.inbox.ending.is_set():
                self._end_stream()
            if not self._keep_open():
                return LONGEST_LOOK
            self._take(self._subscription.inbox.take(self._patience()))
            for pending in self._pending.values():
                self._deliver_due(pending)
            return 0.0
        finally:
            self._tell()
            self._beat()

    def hurry(self) -> None:
        """Begin to end: some seconds from now nothing more is posted, whatever is under way. For any thread."""
        self._hurrying.set()
        last_moment = threading.Timer(FAREWELL, self._give_up.set)
        last_moment.daemon = True
        last_moment.start()

    def finish(self) -> None:
        """Deliver what is held, as far as Tinybird takes it until it is time to give up, and give back the rest."""
        self._subscription.stop_taking()
        self._take(self._subscription.inbox.take(0.0))
        delivered_before = self._batches.delivered
        self._deliver_all()
        left = self._let_go()
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
            _log.error("no messages come: %s", reason, extra={"event": "SubscriptionUnavailable"})
        return self._subscription.is_open

    def _end_stream(self) -> None:
        """Let a stream go that ended by itself: deliver what can be, for what it brought cannot be kept leased."""
        self._problem = "the stream has ended"
        self._take(self._subscription.inbox.take(0.0))
        self._deliver_all()
        self._subscription.inbox.done(self._let_go())

    def _let_go(self) -> list[Message]:
        """Forget what is held, and return its messages."""
        return [message for pending in self._pending.values() for message in pending.all()]

    def _patience(self) -> float:
        """Return how long to wait for messages: until a batch is due, but not long."""
        now = self._monotonic()
        resting = self._batches.resting()
        waiting_since = [each.since() for each in self._pending.values() if each.data_source not in resting]
        oldest = min((since for since in waiting_since if since is not None), default=now + LONGEST_LOOK)
        return min(max(0.0, oldest + self._flush_interval - now), LONGEST_LOOK)

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
                _log.error("hits wait for a salt: %s", error, extra={"event": "SaltUnavailable"})
            except Exception as error:  # noqa: BLE001 - or this message, and those behind it, would stay leased for good
                give_back([message], LONGEST_REST)  # a better version of this service may take it
                _log.error("a defect of this service", exc_info=error, extra={"event": "UnhandledError"})

    def _open_message(self, message: Message, now: float) -> None:
        content = messages.read(message.data, message.attributes)
        if isinstance(content, messages.Unenriched):
            agent = self._parse_user_agent(content.hit.user_agent)
            if agent.device == "bot":
                self._bots += 1
                self._on_bot()
                message.ack()
                return
            # A day that is yet to come would have its salt until it is over.
            day = min(content.arrived, message.publish_time).date()
            event = enrich(
                content.hit,
                agent=agent,
                salt=self._salts.get_or_create(content.hit.site_uuid, day),
                address=content.address,
                now=content.arrived,
                # Whenever the message comes again its event has the same name.
                new_event_id=lambda: str(uuid5(NAMESPACE_OID, message.message_id)),
            )
            content = messages.Published(content.hit.query.name, msgspec.json.encode(event))
        self._pending[content.data_source].add(OutstandingEvent(content.event, message, now))

    def _keep_aside(self, message: Message, reason: str) -> None:
        if self._aside.keep(message, NO_DATA_SOURCE, messages.without_address(message.data), reason):
            _log.error(
                "a message was set aside: %s",
                reason,
                extra={"event": "MessageSetAside", "message_id": message.message_id, "bytes": len(message.data)},
            )

    def _nothing_kept_aside(self, reason: str) -> None:
        _log.error("nothing can be set aside: %s", reason, extra={"event": "SpoolUnavailable"})

    # -- batches

    def _deliver_due(self, pending: Outstanding) -> None:
        rest = self._batches.resting().get(pending.data_source)
        if rest is not None:
            too_many = pending.beyond(self._subscription.most_messages // 2, self._subscription.most_bytes // 2)
            give_back(too_many, min(rest, LONGEST_TURN))
            return
        now = self._monotonic()
        while self._is_due(pending, now) and not self._hurrying.is_set() and self._deliver(pending):
            pass

    def _is_due(self, pending: Outstanding, now: float) -> bool:
        if len(pending.events) >= self._batch_size or pending.size >= self._batches.max_bytes:
            return True
        since = pending.since()
        return since is not None and since + self._flush_interval <= now

    def _deliver_all(self) -> None:
        """Deliver what is held, as far as Tinybird takes it now."""
        for pending in self._pending.values():
            resting = pending.data_source in self._batches.resting()
            while pending.events and not resting and self._deliver(pending):
                pass

    def _deliver(self, pending: Outstanding) -> bool:
        """Deliver one batch; False if Tinybird takes no more now, or it is time to give up."""
        batch = pending.first(self._batch_size, self._batches.max_bytes)
        return self._batches.deliver(pending.data_source, batch, pending)

    # -- what others are told

    def _tell(self) -> None:
        held = sum(len(each.events) for each in self._pending.values())
        counts = (self._received, held, self._aside.count, self._problem is None)
        if counts != self._shown:
            self._shown = counts
            self._show(*counts)

    def _beat(self) -> None:
        now = self._monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_EVERY
        waiting_since = [since for each in self._pending.values() if (since := each.since()) is not None]
        _log.info(
            "the worker has delivered %d events",
            self._batches.delivered,
            extra={
                "event": "WorkerHeartbeat",
                "received": self._received,
                "delivered": self._batches.delivered,
                "quarantined": self._batches.quarantined,
                "held": sum(len(each.events) for each in self._pending.values()),
                "oldest_seconds": round(now - min(waiting_since, default=now)),
                "bots": self._bots,
                "set_aside": self._aside.count,
            },
        )
