"""Stand in for salt stores, and share what their tests have in common."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from traffic_analytics.errors import SaltUnavailable, TooManyNewSites
from traffic_analytics.salts.sqlite import SqliteSalts
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 22)
YESTERDAY = TODAY - timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
SITES = [f"940b73e9-4952-4752-b23d-{number:012}" for number in range(8)]


def refuse_new_site(_site_uuid: str) -> None:
    """Refuse every new site, as a full NewSites does."""
    raise TooManyNewSites("full", 60.0)


def opened(path: Path) -> SqliteSalts:
    """Open salts in a file."""
    store = SqliteSalts(path)
    store.prepare()
    return store


def read_files(directory: Path) -> bytes:
    """Return the content of all files below a directory."""
    return b"".join(file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file())


class CountingSalts(MemorySalts):
    """Count requests and sweeps; the first `failures` sweeps fail, and no request succeeds while the store is away."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.sweeps = 0
        self.failures = 0
        self.is_away = False

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.requests += 1
        if self.is_away:
            raise SaltUnavailable("away")
        return super().get_or_create(site_uuid, day)

    def forget_before(self, day: date) -> int:
        self.sweeps += 1
        if self.failures:
            self.failures -= 1
            raise SaltUnavailable("disk I/O error")
        return super().forget_before(day)

    @property
    def days(self) -> set[date]:
        return set(self._salts)
