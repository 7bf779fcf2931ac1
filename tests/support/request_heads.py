"""Parse request heads as a worker does."""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config

from traffic_analytics.gunicorn_worker.request_head import HeadParser


def head_parser(**settings: Any) -> HeadParser:
    """Return a parser with gunicorn's defaults but for these settings."""
    config = Config()
    for name, value in settings.items():
        config.set(name, value)
    return HeadParser(config, ("127.0.0.1", 8000))


parse_head = head_parser().parse
