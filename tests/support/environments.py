"""Environments of services and workers."""

from __future__ import annotations

from traffic_analytics.settings import Settings

TARGET = "https://api.tinybird.example/v0/events"


TOKEN = {"TINYBIRD_TRACKER_TOKEN": "p.token"}


def read(**environment: str) -> Settings:
    """Read the settings of a service with these variables."""
    return Settings.from_env({"PROXY_TARGET": TARGET, **TOKEN, **environment})


ON_GOOGLE = {"GOOGLE_CLOUD_PROJECT": "my-project"}
PUBLISHES = ON_GOOGLE | {"PUBSUB_TOPIC_PAGE_HITS_RAW": "hits"}
WORKS = TOKEN | ON_GOOGLE | {"WORKER_MODE": "true", "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": "hits"}
