"""Collapse versions of automations' rows when they have become many.

- Only the newest version of a row counts, so no response changes.
- A query reads at most twice the rows that the last collapse left, ROOM more, and the newest of SECONDS_BETWEEN.
  This bounds the time of a query, and the cost of collapsing for each row.
"""

from analytics_store.maintenance import collapse
from analytics_store.store import Store

ROOM = 10_000
"""Growth that is always allowed, in rows; a query of this many takes hundredths of a second."""

SECONDS_BETWEEN = 10.0


class Versions:
    """Hold the number of rows that the last collapse left; 0 at the start of the store."""

    def __init__(self, store: Store, room: int = ROOM) -> None:
        self._store = store
        self._room = room
        self._left = 0

    def collapse_if_grown(self) -> float:
        """Count, which takes milliseconds, and collapse if it is due; return the seconds until the next call."""
        rows = self._store.engine.count_versions()
        if rows > 2 * self._left + self._room:
            collapse(self._store)
            self._left = self._store.engine.count_versions()
        return SECONDS_BETWEEN
