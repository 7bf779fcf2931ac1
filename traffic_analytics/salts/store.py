"""Store one salt per site and UTC day: the protocol, and the store in memory."""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.new_sites import admit_all

if TYPE_CHECKING:
    from collections.abc import Callable

Scope = Literal["process", "machine", "network"]

GRACE = timedelta(minutes=5)
"""Time after midnight for which yesterday's salts are kept, for hits that arrived before it."""


class SaltStore(Protocol):
    """A store of salts. Every method raises SaltUnavailable if the store cannot be used."""

    scope: Scope
    """Reach of the store: one process, the processes of one machine, or several machines."""

    @property
    def chore(self) -> Callable[[], float] | None:
        """Work to repeat in the background, if any; returns the seconds until the next call."""

    def prepare(self) -> None:
        """Create the store, or check the existing one. Raises DamagedFile."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; the first call creates it, all later ones return the same.

        Raises TooManyNewSites if no more sites may get one.
        """

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days beyond recovery, and return their number."""

    def check(self) -> None:
        """Check that the store can be used."""


class MemorySalts:
    """Store salts in memory, for tests and single processes: after a restart all visitors of the day count as new."""

    scope: Scope = "process"
    chore = None

    def __init__(self, admit: Callable[[str], None] = admit_all) -> None:
        self._admit = admit
        self._salts: defaultdict[date, dict[str, str]] = defaultdict(dict)
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Do nothing."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        with self._lock:
            salts = self._salts[day]
            if site_uuid not in salts:
                self._admit(site_uuid)
                salts[site_uuid] = new_salt()
            return salts[site_uuid]

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days."""
        with self._lock:
            return sum(len(self._salts.pop(each)) for each in list(self._salts) if each < day)

    def check(self) -> None:
        """Do nothing: memory can always be used."""


def new_salt() -> str:
    """Create a salt: 32 random bytes in hex."""
    return secrets.token_hex(32)


def salt_key(site_uuid: str, day: date) -> str:
    """Return the name of a salt in a shared store; Node services use the same names."""
    return f"salt:{day.isoformat()}:{site_uuid}"


def parse_salt(stored: object) -> str:
    """Return a stored value if it is a salt. Raises SaltUnavailable: no session id is derived from anything else."""
    if not isinstance(stored, str) or not stored:
        raise SaltUnavailable("the stored value is no salt", store_answered=True)
    return stored
