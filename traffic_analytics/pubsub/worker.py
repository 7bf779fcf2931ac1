"""Deliver events from Pub/Sub to Tinybird, and acknowledge each message once its event is delivered.

Invariants:

- An acknowledged message is delivered, stored as a dead letter, or from a bot. Pub/Sub redelivers every other message,
  even if this process is killed; duplicates have the same `payload.event_id`.
- Outstanding messages stay leased, however long Tinybird is down, and their number and bytes are limited.
- No data source or message blocks another. A data source that is backing off uses at most half of the limits. A message
  that can be neither delivered nor stored as a dead letter is given back with a delay.
- No address leaves memory: raw hits are enriched here, and dead letters are stripped of addresses.
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
from traffic_analytics.pubsub.subscription import MAX_DELAY, give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.pubsub_v1.subscriber.message import Message

    from traffic_analytics.delivery.batch_sender import BatchSender
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.pubsub.outstanding import DeadLetterQueue
    from traffic_analytics.pubsub.subscription import Subscription
    from traffic_analytics.salts.cache import Salts

_log = logging.getLogger(__name__)

MAX_WAIT = 0.25
"""Longest wait for messages, in seconds; an order to stop waits as long."""
REOPEN_AFTER = 5.0
"""Pause before a stream is opened again, in seconds."""
SALT_RETRY = 10.0
"""Delay of a message whose hit lacks a salt, in seconds."""
MAX_EXCESS_DELAY = 10.0
"""Longest delay of excess messages while their data source is backing off, in seconds. Until then Pub/Sub counts them
as outstanding here, and sends no others."""
HEARTBEAT_EVERY = 30.0
"""Interval of the heartbeat's log records, in seconds."""
STOP_TIMEOUT = 6.0
"""Time for delivering outstanding events before the end, in seconds: Cloud Run kills after 10, gunicorn needs 2."""


class Worker:
    """Receiver of messages that batches and delivers their events and acknowledges them; used by one thread."""

    def __init__(
        self,
        subscription: Subscription,
        batches: BatchSender,
        give_up: threading.Event,
        salts: Salts,
        dead_letters: DeadLetterQueue,
        *,
        batch_size: int,
        flush_interval: float,
        parse_user_agent: Callable[[str], UserAgent],
        monotonic: Callable[[], float],
        report: Callable[[int, int, int, bool], None],
        on_bot: Callable[[], None] = lambda: None,
    ) -> None:
        """Build the worker.

        `give_up` ends the work of `batches`. `report` is called with counts of messages (received, outstanding, dead
        letters), and whether messages may arrive. `on_bot` is called for each hit of a bot.
        """
        self._subscription = subscription
        self._batches = batches
        self._give_up = give_up
        self._stopping = threading.Event()
        self._salts = salts
        self._dead_letters = DeadLetters(dead_letters, monotonic, self._log_dead_letter_failure)
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._parse_user_agent = parse_user_agent
        self._monotonic = monotonic
        self._report = report
        self._on_bot = on_bot
        self._reported: tuple[int, int, int, bool] | None = None
        self._outstanding = {name: Outstanding(name, self._dead_letters) for name in DATA_SOURCES}
        self._open_from = 0.0
        self._next_heartbeat = monotonic() + HEARTBEAT_EVERY
        self._received = 0
        self._bots = 0
        self._problem: str | None = "not subscribed yet"

    def tick(self) -> float:
        """Receive messages and deliver due batches; return the seconds until the next call."""
        try:
            if self._subscription.is_open and self._subscription.inbox.ending.is_set():
                self._end_stream()
            if not self._keep_open():
                return MAX_WAIT
            self._receive(self._subscription.inbox.take(self._wait_time()))
            for outstanding in self._outstanding.values():
                self._deliver_due(outstanding)
            return 0.0
        finally:
            self._report_counts()
            self._log_heartbeat()

    def prepare_stop(self) -> None:
        """Start no further batch, and give up after STOP_TIMEOUT. May be called by any thread."""
        self._stopping.set()
        timer = threading.Timer(STOP_TIMEOUT, self._give_up.set)
        timer.daemon = True
        timer.start()

    def finish(self) -> None:
        """Deliver outstanding events until Tinybird refuses or `give_up` is set, and give back the others."""
        self._subscription.stop_receiving()
        self._receive(self._subscription.inbox.take(0.0))
        delivered_before = self._batches.delivered
        self._deliver_all()
        unsettled = self._drop_all()
        self._subscription.close(unsettled, timeout=2.0)
        _log.info(
            "the worker has stopped: %d events delivered since the signal, %d given back",
            self._batches.delivered - delivered_before,
            len(unsettled),
            extra={"event": "WorkerStopped", "delivered": self._batches.delivered, "given_back": len(unsettled)},
        )

    def check(self) -> None:
        """Check that messages may arrive. Raises NotSubscribed."""
        if self._problem is not None:
            raise NotSubscribed(f"no messages arrive: {self._problem}")

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
            _log.error("no messages arrive: %s", reason, extra={"event": "SubscriptionUnavailable"})
        return self._subscription.is_open

    def _end_stream(self) -> None:
        """Settle the messages of a stream that ended by itself: their leases can no longer be extended."""
        self._problem = "the stream has ended"
        self._receive(self._subscription.inbox.take(0.0))
        self._deliver_all()
        self._subscription.inbox.done(self._drop_all())

    def _drop_all(self) -> list[Message]:
        """Drop all outstanding events, and return their messages."""
        return [message for outstanding in self._outstanding.values() for message in outstanding.drop_all()]

    def _wait_time(self) -> float:
        """Return the time until the next batch is due, at most MAX_WAIT, in seconds."""
        now = self._monotonic()
        resting = self._batches.resting()
        waiting_since = [each.since() for each in self._outstanding.values() if each.data_source not in resting]
        oldest = min((since for since in waiting_since if since is not None), default=now + MAX_WAIT)
        return min(max(0.0, oldest + self._flush_interval - now), MAX_WAIT)

    # -- messages

    def _receive(self, arrived: Sequence[Message]) -> None:
        now = self._monotonic()
        if arrived:
            _log.debug("%d messages arrived", len(arrived), extra={"event": "MessagesTaken", "count": len(arrived)})
        for message in arrived:
            self._received += 1
            try:
                self._add(message, now)
            except NoEvent as error:
                self._dead_letter(message, str(error))
            except SaltUnavailable as error:
                give_back([message], SALT_RETRY)
                _log.error("hits wait for a salt: %s", error, extra={"event": "SaltUnavailable"})
            except Exception as error:  # noqa: BLE001 - otherwise this message and the next would stay leased for good
                give_back([message], MAX_DELAY)  # another version of this service may accept it
                _log.error("defect of this service", exc_info=error, extra={"event": "UnhandledError"})

    def _add(self, message: Message, now: float) -> None:
        content = messages.read(message.data, message.attributes)
        if isinstance(content, messages.Unenriched):
            agent = self._parse_user_agent(content.hit.user_agent)
            if agent.device == "bot":
                self._bots += 1
                self._on_bot()
                message.ack()
                return
            # The salt of a future day would be kept until that day is over.
            day = min(content.arrived, message.publish_time).date()
            event = enrich(
                content.hit,
                agent=agent,
                salt=self._salts.get_or_create(content.hit.site_uuid, day),
                address=content.address,
                now=content.arrived,
                # Stable, so that a redelivered message yields the same event id.
                new_event_id=lambda: str(uuid5(NAMESPACE_OID, message.message_id)),
            )
            content = messages.Published(content.hit.query.name, msgspec.json.encode(event))
        self._outstanding[content.data_source].add(OutstandingEvent(content.event, message, now))

    def _dead_letter(self, message: Message, reason: str) -> None:
        if self._dead_letters.add(message, NO_DATA_SOURCE, messages.without_address(message.data), reason):
            _log.error(
                "a message became a dead letter: %s",
                reason,
                extra={"event": "MessageSetAside", "message_id": message.message_id, "bytes": len(message.data)},
            )

    def _log_dead_letter_failure(self, reason: str) -> None:
        _log.error("dead letters cannot be stored: %s", reason, extra={"event": "SpoolUnavailable"})

    # -- batches

    def _deliver_due(self, outstanding: Outstanding) -> None:
        back_off = self._batches.resting().get(outstanding.data_source)
        if back_off is not None:
            excess = outstanding.drop_excess(self._subscription.max_messages // 2, self._subscription.max_bytes // 2)
            give_back(excess, min(back_off, MAX_EXCESS_DELAY))
            return
        now = self._monotonic()
        while self._is_due(outstanding, now) and not self._stopping.is_set() and self._deliver(outstanding):
            pass

    def _is_due(self, outstanding: Outstanding, now: float) -> bool:
        if len(outstanding.events) >= self._batch_size or outstanding.size >= self._batches.max_bytes:
            return True
        since = outstanding.since()
        return since is not None and since + self._flush_interval <= now

    def _deliver_all(self) -> None:
        """Deliver outstanding events until Tinybird refuses."""
        for outstanding in self._outstanding.values():
            is_backing_off = outstanding.data_source in self._batches.resting()
            while outstanding.events and not is_backing_off and self._deliver(outstanding):
                pass

    def _deliver(self, outstanding: Outstanding) -> bool:
        """Deliver one batch; return False if Tinybird accepts no more now, or `give_up` is set."""
        batch = outstanding.first(self._batch_size, self._batches.max_bytes)
        return self._batches.deliver(outstanding.data_source, batch, outstanding)

    # -- reports

    def _report_counts(self) -> None:
        counts = (self._received, self._count_outstanding(), self._dead_letters.count, self._problem is None)
        if counts != self._reported:
            self._reported = counts
            self._report(*counts)

    def _count_outstanding(self) -> int:
        return sum(len(each.events) for each in self._outstanding.values())

    def _log_heartbeat(self) -> None:
        now = self._monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_EVERY
        waiting_since = [since for each in self._outstanding.values() if (since := each.since()) is not None]
        _log.info(
            "the worker has delivered %d events",
            self._batches.delivered,
            extra={
                "event": "WorkerHeartbeat",
                "received": self._received,
                "delivered": self._batches.delivered,
                "quarantined": self._batches.quarantined,
                "held": self._count_outstanding(),
                "oldest_seconds": round(now - min(waiting_since, default=now)),
                "bots": self._bots,
                "set_aside": self._dead_letters.count,
            },
        )
