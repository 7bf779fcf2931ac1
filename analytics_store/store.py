"""What a request needs, in one place: the file, its writer, who may do what, and the clock."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from analytics_store import endpoints
from analytics_store.database import Answer, Database
from analytics_store.hits import Hits
from analytics_store.settings import Settings
from analytics_store.tokens import Tokens

# Each question may take all memory that there is; more at a time would fail each other.
QUESTIONS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Store:
    """The store's parts; it owns no thread until something starts one."""

    settings: Settings
    database: Database
    hits: Hits
    tokens: Tokens
    clock: Callable[[], float]
    _asking: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(QUESTIONS_AT_ONCE))

    def now(self) -> datetime:
        """Tell the time in UTC, without a zone as everywhere in the store."""
        return datetime.fromtimestamp(self.clock(), UTC).replace(tzinfo=None)

    def ask(self, pipe: str, args: Mapping[str, str]) -> Answer:
        """Answer a statistics question; its rights have been checked."""
        endpoint = endpoints.find(pipe)
        with self._asking:
            return endpoints.run(endpoint, self.database, args, self.now())
