"""Versions of automations' rows are collapsed when they have become many, however often Ghost sends them again.

- What counts of a row is its newest version, so no answer changes.
- There are never more than twice the rows that the last collapse left and ROOM more, but for what comes while nobody
  looks: that bounds what a question reads, and the price of collapsing for each row that comes.
"""

from analytics_store.store import Store
from analytics_store.upkeep import collapse, count_versions

# A question about this many takes hundredths of a second.
ROOM = 10_000
SECONDS_BETWEEN = 10.0


class Versions:
    """Knows how many rows the last collapse left; none has been when the store starts."""

    def __init__(self, store: Store, room: int = ROOM) -> None:
        self._store = store
        self._room = room
        self._left = 0

    def collapse_if_grown(self) -> None:
        """Count, which takes milliseconds, and collapse if it is due."""
        rows = count_versions(self._store)
        if rows > 2 * self._left + self._room:
            collapse(self._store)
            self._left = count_versions(self._store)
