"""The service with a delivery that does nothing, to measure all else of a hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traffic_analytics.wiring import parts

if TYPE_CHECKING:
    from collections.abc import Callable


class Dropped:
    """Event that counts as stored at once."""

    @staticmethod
    def on_ready(callback: Callable[[], object]) -> None:
        callback()

    @staticmethod
    def wait() -> None:
        return None


class NoDelivery:
    def submit(self, *_: Any) -> Dropped:
        return Dropped()


parts.make_delivery = lambda *_: NoDelivery()

from app import app  # noqa: E402

__all__ = ["app"]
