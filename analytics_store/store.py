"""Hold the parts that a request needs: the engine, its writer, the tokens and the clock."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from analytics_store import endpoints
from analytics_store.engine import Engine, Result
from analytics_store.hits import Hits
from analytics_store.settings import Settings
from analytics_store.timestamps import from_unix
from analytics_store.tokens import Tokens

CONCURRENT_QUERIES = 2
"""Queries that run at a time; each may use all of STORE_MEMORY_MB, so more of them would fail."""


@dataclass(frozen=True, slots=True)
class Store:
    """The store's parts; it owns no thread until its chores are started."""

    settings: Settings
    engine: Engine
    hits: Hits
    tokens: Tokens
    clock: Callable[[], float]
    _querying: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(CONCURRENT_QUERIES))

    def open(self) -> None:
        """Open the files. Raises DamagedFile, or UnavailableError."""
        self.hits.open()

    def close(self) -> None:
        """Write all rows to the engine, and close the files."""
        try:
            self.hits.close()
        finally:
            self.engine.close()

    def now(self) -> datetime:
        """Return the time in UTC, without a zone as everywhere in the store."""
        return from_unix(self.clock())

    def query(self, pipe: str, args: Mapping[str, str]) -> Result:
        """Run a query of a pipe; the caller has checked the token."""
        name, values = endpoints.read(pipe, args, self.now())
        with self._querying:
            return self.engine.ask(name, values)
