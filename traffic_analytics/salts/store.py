"""Store one salt per site and UTC day: the protocol, and the store in memory."""

from __future__ import annotations

import secrets
import threading
from datetime import date, timedelta
from typing import Protocol

from traffic_analytics.errors import SaltUnavailable

GRACE = timedelta(minutes=5)
"""How long after midnight yesterday's salts are kept, for hits that arrived before it."""


class SaltStore(Protocol):
    """Where salts are kept. Every method raises SaltUnavailable if the store cannot be used."""

    def prepare(self) -> None:
        """Create the store or check the one that is there; raises DamagedFile."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; whoever asks first makes it, everybody else gets the same."""

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days beyond recovery and say how many there were."""

    def check(self) -> None:
        """Find out whether the store can be used."""


class MemorySalts:
    """Salts of one process, for tests and single processes: a restart renames all visitors of the day."""

    def __init__(self) -> None:
        self._salts: dict[tuple[str, date], str] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Need nothing."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        with self._lock:
            return self._salts.setdefault((site_uuid, day), new_salt())

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days."""
        with self._lock:
            past = [key for key in self._salts if key[1] < day]
            for key in past:
                del self._salts[key]
        return len(past)

    def check(self) -> None:
        """Be usable at all times."""


def new_salt() -> str:
    """Make a salt: 32 random bytes in hex."""
    return secrets.token_hex(32)


def salt_key(site_uuid: str, day: date) -> str:
    """Name a salt where several services keep it; Node services look for it under the same name."""
    return f"salt:{day.isoformat()}:{site_uuid}"


def parse_salt(stored: object) -> str:
    """Return what a store holds as a salt. Raises SaltUnavailable rather than to name visitors by something else."""
    if not isinstance(stored, str) or not stored:
        raise SaltUnavailable("what the store holds is no salt", store_answered=True)
    return stored
