"""Describe the engine of a store: the database that holds its rows and answers its queries.

All that speaks a database's own language is behind this interface. Everything else of the store knows only rows of
`events.py`, names of pipes, and values that `parameters.py` has read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from analytics_store.events import Row


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query, with the names of their columns and Tinybird's names of their types."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]
    rows_read: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row in quarantine; `id` stays the same as long as it is there."""

    id: str
    arrived: str
    name: str
    reason: str
    row: str


class Engine(Protocol):
    """A database with the rows of a store. Times are UTC without a zone.

    Threads may read at any time. One thread at a time may write: `append`, `collapse`, `forget`, `erase`,
    `release`, `settle`, `sort`, `compact`. But `append` and `sort` may run side by side.
    """

    def open(self) -> None:
        """Open or create the database. Raises DamagedFile, or UnavailableError."""

    def close(self) -> None:
        """Write everything to the disk and close the database; the next call of a method opens it again."""

    def ping(self) -> None:
        """Run the least query. Raises UnavailableError."""

    def ask(self, pipe: str, values: Mapping[str, Any]) -> Result:
        """Run the query of a pipe. Raises OverMemoryError, or UnavailableError."""

    def position(self) -> int:
        """Return the journal's position of the last append; 0 before the first."""

    def append(self, rows: list[Row], position: int | None) -> int:
        """Commit rows and the journal's position behind them, all or none, each hit once; return when they are synced.

        Without a position that of the last append stays. Returns how many hits the engine had already. Raises
        RefusedRowsError if a row would be refused again.
        """

    def export(self, name: str, site: str | None = None) -> tuple[int, Iterator[bytes]]:
        """Count the rows of a data source, and write them as NDJSON, page hits in the order of time; memory is bounded.

        Both are of one snapshot, which stays until the lines have been iterated or closed; iterate at least the first.
        With `site`, a UUID in lower case, it holds the rows of that site only.
        """

    def sites(self) -> list[dict[str, Any]]:
        """Return each site with its host and the counts of its content, that with most hits first."""

    def count_versions(self) -> int:
        """Return the number of rows of automations, with every version counted."""

    def collapse(self) -> int:
        """Delete all versions of automations' rows but the newest, all or none; return how many were deleted."""

    def forget(self, before: datetime, site: str | None = None, but: Collection[str] = ()) -> int:
        """Delete the rows before a time, and correct sessions that went on; return how many hits were deleted.

        With `site`, delete those of one site; without, those of all sites but `but`. UUIDs are in lower case.
        """

    def erase(self, site: str) -> int:
        """Delete all rows of a site, and those in quarantine that name it; return how many hits were deleted.

        The database may still hold their bytes, unused, until `compact`.
        """

    def quarantined(self) -> list[Quarantined]:
        """Return the rows in quarantine, in the order of their arrival."""

    def release(self, ids: Collection[str]) -> int:
        """Delete rows in quarantine; return how many."""

    def has_unsettled(self, last: date) -> bool:
        """Return whether `settle` has something to do for the days up to `last`."""

    def settle(self, last: date) -> None:
        """Take a short step that makes queries of finished days quicker; no answer changes."""

    def sort(self, last: date) -> bool:
        """Bring the rows of days up to `last` closer to others of their site; return whether there was something to do.

        No answer changes.
        """

    def stop_sorting(self) -> None:
        """End a call of `sort` in another thread soon; rows that have not moved stay where they are."""

    def check(self) -> dict[str, int]:
        """Compute what is derived from the hits anew; return the number of differences by what they are in."""

    def compact(self) -> None:
        """Order the rows by site and time, and free unused space. If it breaks off, nothing has changed."""

    def info(self) -> dict[str, Any]:
        """Return the counts of the content."""

    def size(self) -> int:
        """Return the bytes of disk in use, unused parts of files included; it costs next to nothing."""

    def free_bytes(self) -> int:
        """Return the bytes that `size` counts and that hold nothing; the next appends use them."""

    def checkpoint(self) -> None:
        """Bring recent rows into their final form, which takes less space; do nothing if it is not possible now."""
