"""Provide fakes for parts of the service."""

from __future__ import annotations

from typing import Any

from traffic_analytics.delivery.spool import Spool
from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.store import MemorySalts


class UnusableSalts(MemorySalts):
    def get_or_create(self, *_: Any) -> str:
        raise SaltUnavailable("disk I/O error")

    def check(self) -> None:
        raise SaltUnavailable("disk I/O error")


def spooled(service: Any) -> list[bytes]:
    spool = Spool(service.data_dir / "spool.sqlite3", sync="normal", max_mb=8, clock=lambda: 0.0)
    return [each.event for each in spool.list_waiting()]
