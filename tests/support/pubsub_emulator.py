"""Google's own Pub/Sub emulator, started and stopped here: it keeps messages in memory only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable
from google.pubsub_v1 import PublisherClient, PubsubMessage, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.support.neighbours import GOOGLE_EMULATORS, Neighbour, found, path_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PROJECT = "the-project"
_LIB = GOOGLE_EMULATORS / "pubsub-emulator" / "lib"
_JAR = next(_LIB.glob("cloud-pubsub-emulator-*.jar"), _LIB)


def missing() -> str | None:
    """Return a program that the emulator needs and that is not installed."""
    return next((str(each) for each in ("java", _JAR) if path_of(each) is None), None)


class PubsubEmulator(Neighbour):
    """Run one emulator; create topics and subscriptions, publish messages and receive them."""

    def __init__(self, directory: Path) -> None:
        java = [found("java"), "-Xmx1g", "-XX:+UseSerialGC", "-jar", found(_JAR), "--host=127.0.0.1", "--port={port}"]
        super().__init__(directory, java, self._lists_topics)
        self.address = f"127.0.0.1:{self.port}"
        channel = grpc.insecure_channel(self.address, options=[("grpc.max_reconnect_backoff_ms", 200)])
        self._topics = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriptions = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

    def create(self, name: str, *more_subscriptions: str) -> None:
        """Create a topic and a subscription of the same name, and more subscriptions of the topic."""
        self.create_topic(name)
        for subscription in (name, *more_subscriptions):
            self.create_subscription(subscription, name)

    def create_topic(self, name: str) -> None:
        """Create a topic."""
        self._topics.create_topic(name=_topic(name))

    def create_subscription(self, name: str, topic: str) -> None:
        """Create a subscription; a message that is not acknowledged within 10 seconds is delivered again."""
        self._subscriptions.create_subscription(name=_subscription(name), topic=_topic(topic), ack_deadline_seconds=10)

    def publish(self, name: str, messages: Iterable[bytes], **attributes: str) -> None:
        """Publish messages as a foreign client does."""
        self._topics.publish(
            topic=_topic(name), messages=[PubsubMessage(data=data, attributes=attributes) for data in messages]
        )

    def take(self, name: str, timeout: float = 5.0) -> list[Any]:
        """Receive and acknowledge the messages of a subscription; none if none arrives in time."""
        try:
            response = self._subscriptions.pull(subscription=_subscription(name), max_messages=1000, timeout=timeout)
        except DeadlineExceeded:
            return []
        if response.received_messages:
            ack_ids = [each.ack_id for each in response.received_messages]
            self._subscriptions.acknowledge(subscription=_subscription(name), ack_ids=ack_ids)
        return [each.message for each in response.received_messages]

    def _lists_topics(self, _port: int) -> bool:
        try:
            list(self._topics.list_topics(project=f"projects/{PROJECT}", timeout=2.0))
        except ServiceUnavailable:
            return False
        return True


def _topic(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


def _subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def environment(emulator: PubsubEmulator) -> dict[str, str]:
    """Return the variables with which service and worker find the emulator."""
    return {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "PUBSUB_EMULATOR_HOST": emulator.address,
        "LOG_FORMAT": "json",
        "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE"),  # noqa: TID251 - gRPC's own
    }
