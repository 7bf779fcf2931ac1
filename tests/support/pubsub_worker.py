"""Run a worker with a fake subscription, Tinybird and dead-letter queue."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from tests.support.messages import EVENT, encoded
from traffic_analytics.delivery.batch_sender import BatchSender
from traffic_analytics.delivery.target import DATA_SOURCES, Reply, Verdict
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.hits import user_agent
from traffic_analytics.pubsub import message as messages
from traffic_analytics.pubsub.subscription import Inbox
from traffic_analytics.pubsub.worker import Worker
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.store import MemorySalts

REAL, TEST = DATA_SOURCES


class Message:
    """A message that records its acknowledgement, or the delay with which it was given back."""

    def __init__(self, data: bytes, data_source: str | None = REAL, message_id: str = "1") -> None:
        self.data = data
        self.attributes = {} if data_source is None else {messages.ATTRIBUTE: data_source}
        self.message_id = message_id
        self.publish_time = datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC)
        self.acked = False
        self.again_after: int | None = None

    def ack(self) -> None:
        self.acked = True

    def modify_ack_deadline(self, seconds: int) -> None:
        self.again_after = seconds

    def drop(self) -> None:
        assert self.again_after is not None


def event(name: str = "e", data_source: str = REAL, **more: Any) -> Message:
    return Message(encoded({**EVENT, "payload": {**EVENT["payload"], "event_id": name, **more}}), data_source)


class Subscription:
    max_messages = 10
    max_bytes = 1_000_000

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.is_open = False
        self.closed = False
        self.problem: str | None = None
        self.end: str | None = None
        self.left: list[Any] = []
        self.opened = 0

    def open(self) -> str | None:
        self.opened += 1
        self.is_open = self.problem is None
        return self.problem

    def ended(self) -> str | None:
        end, self.end = self.end, None
        self.is_open = self.is_open and end is None
        return end

    def stop_receiving(self) -> None:
        self.closed = True

    def close(self, left: Any, timeout: float) -> None:
        self.left = list(left)


class Tinybird:
    NAME = WRONG_SETUP = "Tinybird %s"

    def __init__(self) -> None:
        self.answers: dict[str, Reply] = {}
        self.refused: set[str] = set()
        self.delivered: list[str] = []
        self.batches: list[int] = []

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        raise NotImplementedError

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        self.batches.append(len(events))
        names = [json.loads(each)["payload"]["event_id"] for each in events]
        if self.refused & set(names):
            return Reply(Verdict.REFUSED, "status 400", 400)
        answer = self.answers.get(data_source, Reply(Verdict.TAKEN, "status 202", 202))
        if answer.verdict is Verdict.TAKEN:
            self.delivered += names
        return answer


class DeadLetterQueue:
    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes, str]] = []
        self.calls = 0
        self.full = False

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        self.calls += 1
        if self.full:
            raise SpoolUnavailable("it is full")
        self.stored.append((data_source, event, reason))


class FailingSalts(MemorySalts):
    error: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.days: list[date] = []

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.days.append(day)
        if self.error is not None:
            raise self.error
        return super().get_or_create(site_uuid, day)


class World:
    """A worker and its neighbours; time passes only by `tick`."""

    def __init__(self, batch_size: int = 5, flush_interval: float = 1.0) -> None:
        self.now = 1000.0
        self.subscription = Subscription()
        self.tinybird = Tinybird()
        self.dead_letters = DeadLetterQueue()
        self.salts = FailingSalts()
        self.reports: list[tuple[int, int, int, bool]] = []
        self.give_up = threading.Event()
        self.batches = BatchSender(self.tinybird, monotonic=lambda: self.now, stopping=self.give_up)
        self.batches._keep_pace = lambda: None  # type: ignore[method-assign] # whose waiting would be real
        self.worker = Worker(
            self.subscription,  # type: ignore[arg-type]
            self.batches,
            self.give_up,
            Salts(self.salts),
            self.dead_letters,
            batch_size=batch_size,
            flush_interval=flush_interval,
            parse_user_agent=user_agent.parse,
            monotonic=lambda: self.now,
            report=lambda *counts: self.reports.append(counts),
        )

    def deliver(self, *arrived: Message) -> None:
        for each in arrived:
            self.subscription.inbox.schedule(lambda _message: None, each)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.worker.tick()
