"""Move the rows of a period that has ended into the order of site and time, so that a query reads its own site.

- DuckDB skips the 122 880 rows of a row group, and the 2 048 of a vector, if none is of the site. So rows are sorted
  by day, and again in longer periods, where a site's rows lie in few row groups.
- Hits move in a transaction beside those of appends, which only insert hits. Appends update sessions, so they wait
  while sessions move, of which there are fewer.
- A hit that arrives late lies where it arrived. When LEAST_HITS more are late than were sorted, by an import for
  example, the period is sorted again.
- Rows move inside their table, so that nothing else in the engine depends on it. The space of old rows is free when all
  rows beside them have moved.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import duckdb

from analytics_store.duckdb_engine.database import Database
from analytics_store.duckdb_engine.pieces import Piece, Table, split
from analytics_store.duckdb_engine.statements import run
from analytics_store.errors import UnavailableError
from analytics_store.events import Hit

HITS = Table("hits", "ts", "site_uuid")
SESSIONS = Table("sessions", "first_ts", "site_uuid")
LENGTHS = (1, 6, 30)
"""Lengths of the periods, in days; each hit moves once for each."""
LEAST_HITS = 20_000
"""Least hits of a period to sort; fewer are read in a millisecond."""
MOST_HITS = 3_000_000
"""Most hits of a period of several days: moving them takes about 15 seconds."""
ONE_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Period:
    """Some days (UTC)."""

    first_day: date
    days: int

    @property
    def end(self) -> date:
        """Return the day after the period."""
        return self.first_day + timedelta(days=self.days)

    def of(self, table: Table) -> Piece:
        """Return the rows of the period."""
        first = datetime.combine(self.first_day, time())
        return Piece({table.time: (first, first + timedelta(days=self.days) - ONE_MICROSECOND)})


class Sorting:
    """Sort periods, the longest first, and of those the newest. Appends hold the lock."""

    def __init__(self, database: Database, appending: AbstractContextManager[object], piece_bytes: int) -> None:
        self._database = database
        self._appending = appending
        self._piece_bytes = piece_bytes
        self._stopping = threading.Event()
        # The first day that is in no sorted period.
        self._end = date.min
        # The last day by which all periods are sorted.
        self._finished = date.min

    def load(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Read which periods are sorted."""
        self._stopping.clear()
        ((end,),) = cursor.execute("SELECT max(first_day + days) FROM sorted_periods").fetchall()
        self._end = end or date.min
        self._finished = date.min

    def stop(self) -> None:
        """End a call of `sort` in another thread soon; what it has not committed is rolled back."""
        self._stopping.set()

    def note_late(self, cursor: duckdb.DuckDBPyConnection, hits: Sequence[Hit]) -> None:
        """Count hits of sorted periods, which are in the order of time; commits nothing. An append calls it."""
        if hits[0].ts.date() <= self._finished:
            self._finished = date.min
        if late := Counter(day for hit in hits if (day := hit.ts.date()) < self._end):
            run(cursor, "sql/note_late.sql", {"days": list(late), "counts": list(late.values())})

    def sort(self, last: date) -> bool:
        """Sort a period that ended by a day, if one is left; return whether one was."""
        period = self._find(last)
        if period is None:
            return False
        with self._database.cursor() as cursor:
            cursor.execute("BEGIN")
            of_period = period.of(HITS)
            counted = f"SELECT count(*), min(site_uuid) <> max(site_uuid) FROM hits WHERE {of_period.condition}"  # noqa: S608 - the names are this package's own
            ((hits, has_several_sites),) = cursor.execute(counted, of_period.values).fetchall()
            moves = bool(has_several_sites) and hits >= LEAST_HITS
            if moves and not self._move(cursor, HITS, of_period):
                return False
            cursor.execute("COMMIT")
        with self._appending, self._database.cursor() as cursor:
            cursor.execute("BEGIN")
            if moves and not self._move(cursor, SESSIONS, period.of(SESSIONS)):
                return False
            values = {"first_day": period.first_day, "days": period.days, "end": period.end, "hits": hits}
            run(cursor, "sql/note_sorted.sql", values)
            # Set before the commit, which may take effect even if it fails.
            self._end = max(self._end, period.end)
            cursor.execute("COMMIT")
        return True

    def _find(self, last: date) -> Period | None:
        # Without appends: one that has called `note_late` may not be committed yet.
        with self._appending, self._database.cursor() as cursor:
            if last <= self._finished:
                return None
            values = {"last": last, "lengths": LENGTHS, "least": LEAST_HITS, "most": MOST_HITS}
            if found := run(cursor, "sql/unsorted_period.sql", values):
                return Period(*found[0])
            self._finished = last
        return None

    def _move(self, cursor: duckdb.DuckDBPyConnection, table: Table, of_period: Piece) -> bool:
        """Move rows to the end of their table; return whether the store did not stop meanwhile. Commits nothing."""
        # Rows that a transaction inserts have higher row numbers than all others.
        ((last_row,),) = cursor.execute(f"SELECT max(rowid) FROM {table.path}").fetchall()  # noqa: S608
        moved = 0
        for piece in split(cursor, table, self._piece_bytes, of_period):
            if self._stopping.is_set():
                return False
            selected = (
                f"SELECT * FROM {table.path} WHERE {piece.condition} AND rowid <= $last_row ORDER BY {table.order}"  # noqa: S608
            )
            values = piece.values | {"last_row": last_row}
            moved += cursor.execute(f"INSERT INTO {table.path} BY NAME {selected}", values).fetchall()[0][0]
        deleted = f"DELETE FROM {table.path} WHERE {of_period.condition} AND rowid <= $last_row"  # noqa: S608
        ((rows,),) = cursor.execute(deleted, of_period.values | {"last_row": last_row}).fetchall()
        if rows != moved:
            raise UnavailableError(f"{moved} of {rows} rows were moved, so none is; please report it")
        return True
