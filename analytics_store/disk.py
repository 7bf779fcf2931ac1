"""Bound the disk space of the store: refuse appends at STORE_MAX_MB, and log a warning before."""

import logging

from analytics_store.engine import Engine
from analytics_store.errors import FullError
from analytics_store.journal import Journal
from analytics_store.settings import Settings

_log = logging.getLogger(__name__)

WARN_FROM = 0.9
"""Share of STORE_MAX_MB from which the store warns."""
WARN_AGAIN_BELOW = 0.8
"""Share below which the space must fall before the next warning; the log alone grows and shrinks all the time."""


class DiskLimit:
    """Compare the space in use with the limit; one thread at a time may call it."""

    def __init__(self, settings: Settings, engine: Engine, journal: Journal) -> None:
        self._engine = engine
        self._journal = journal
        self._limit = settings.max_mb and settings.max_mb * 2**20
        self._warned = False

    def check(self) -> None:
        """Raise FullError if the limit is reached; called before each commit, it costs two looks at files."""
        if self._limit is None:
            return
        warn_from = int(self._limit * WARN_FROM)
        # The file never shrinks, so a second look does not count its free blocks.
        used = self._engine.size() + self._journal.waiting_bytes
        if used >= warn_from:
            used -= self._engine.free_bytes()
        if used >= self._limit:
            self._engine.checkpoint()  # the log takes more space than its rows do in the file
            used = self._engine.size() - self._engine.free_bytes() + self._journal.waiting_bytes
        if used >= self._limit:
            raise FullError(
                f"the store uses {used >> 20} MiB of disk, and STORE_MAX_MB allows {self._limit >> 20}: raise it, or "
                "delete old hits with STORE_RETENTION_DAYS"
            )
        if used >= warn_from and not self._warned:
            facts = {"used_mb": used >> 20, "max_mb": self._limit >> 20}
            _log.warning("the store is nearly full", extra={"event": "StoreNearlyFull", **facts})
            self._warned = True
        elif used < self._limit * WARN_AGAIN_BELOW:
            self._warned = False
