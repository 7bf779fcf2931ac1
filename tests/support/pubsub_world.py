"""Run services and workers with a topic of the emulator."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from tests.support import pubsub_emulator
from tests.support.app import FIREFOX, SITE
from tests.support.fake_tinybird import FakeTinybird, Request, taken
from tests.support.pubsub_emulator import PubsubEmulator
from tests.support.service import ADDRESS, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fake_tinybird import Answer

REDELIVERY_PATIENCE = 120.0
"""Longest wait for a message to return, in seconds: leases of 10 s and retries of a client for 60 s."""


class World:
    """Topic of the emulator, with the services and workers of a test."""

    def __init__(self, emulator: PubsubEmulator, directory: Path, fake: FakeTinybird) -> None:
        self.emulator = emulator
        self.fake = fake
        self.topic = f"hits-{uuid.uuid4().hex[:8]}"
        self._directory = directory
        self.processes: list[Service] = []

    def service(self, **environment: str) -> Service:
        """Start a service that publishes."""
        service = self._new("service", PUBSUB_TOPIC_PAGE_HITS_RAW=self.topic, **environment)
        service.start()
        return service

    def worker(self, **environment: str) -> Service:
        """Start a worker."""
        worker = self.new_worker(**environment)
        worker.start()
        return worker

    def new_worker(self, **environment: str) -> Service:
        """Create a worker without starting it."""
        worker = {"WORKER_MODE": "true", "WEB_CONCURRENCY": "1", "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": self.topic}
        return self._new("worker", **worker | environment)

    def _new(self, kind: str, **environment: str) -> Service:
        directory = self._directory / f"{kind}-{len(self.processes)}"
        process = Service(directory, self.fake.url, **pubsub_emulator.environment(self.emulator) | environment)
        self.processes.append(process)
        return process


def records(service: Service, event: str) -> list[dict[str, Any]]:
    lines = [line for line in service.log.splitlines() if line.startswith("{")]
    return [record for record in map(json.loads, lines) if record["event"] == event]


def accepted(outcomes: list[Any]) -> set[str]:
    assert {each.status for each in outcomes} == {202}
    return {each.event_id for each in outcomes}


def refusing(refused_id: str, answer: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    return lambda request: answer(request) if refused_id in request.event_ids else taken(request)


def raw_message(**changes: Any) -> dict[str, Any]:
    """Build a message as ghost/traffic-analytics publishes it."""
    event_id = changes.pop("event_id", str(uuid.uuid4()))
    return {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime()),
        "action": "page_hit",
        "version": "1",
        "site_uuid": SITE,
        "payload": {
            "event_id": event_id,
            "member_uuid": "undefined",
            "member_status": "undefined",
            "post_uuid": "undefined",
            "post_type": "null",
            "locale": "en-US",
            "location": "DE",
            "referrer": None,
            "parsedReferrer": {"source": None, "medium": None, "url": "https://www.google.com/"},
            "pathname": "/",
            "href": "https://blog.example/",
            "utm_source": None,
            "utm_medium": None,
            "utm_campaign": None,
            "utm_term": None,
            "utm_content": None,
            "meta": {"received_timestamp": "2026-11-22T00:30:13.714Z"},
        },
        "meta": {"ip": ADDRESS, "user-agent": FIREFOX},
    } | changes
