"""Move the rows of a period that has ended into the order of site and time, so that a query reads its own site.

- DuckDB skips the 122 880 rows of a row group, and the 2 048 of a vector, if none is of the site. So rows are sorted
  by day, and again in longer periods, where a site's rows lie in few row groups.
- Hits move in a transaction beside those of appends, which only insert hits. Appends update sessions, so they wait
  while sessions move, which takes a fifth of the time.
- A hit that arrives late lies where it arrived. When as many are late as were sorted, by an import for example, the
  period is sorted again.
- Rows move inside their table, so no other part of the engine knows of it. The space of old rows is free when all rows
  beside them have moved.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import duckdb

from analytics_store.duckdb_engine.pieces import Piece, Table, split
from analytics_store.duckdb_engine.statements import run
from analytics_store.events import Hit

HITS = Table("hits", "ts", "site_uuid")
SESSIONS = Table("sessions", "first_ts", "site_uuid")
LENGTHS = (1, 6, 30)
"""Lengths of the periods, in days; each hit moves once for each."""
LEAST_HITS = 20_000
"""Least hits of a period to sort; fewer are read in a millisecond."""
MOST_HITS = 3_000_000
"""Hits above which a period of several days is not sorted as a whole: moving them takes about 15 seconds."""
ONE_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Period:
    """Some days (UTC)."""

    first_day: date
    days: int

    def of(self, table: Table) -> Piece:
        """Return the rows of the period."""
        first = datetime.combine(self.first_day, time())
        return Piece({table.time: (first, first + timedelta(days=self.days) - ONE_MICROSECOND)})

    @property
    def end(self) -> date:
        """Return the day after the period."""
        return self.first_day + timedelta(days=self.days)


class Sorting:
    """Sort periods, the longest first, and of those the newest."""

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._stopping = threading.Event()
        # The first day that is in no sorted period.
        self._end = date.min
        # The last day by which all periods are sorted.
        self._finished: date | None = None

    def load(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Read which periods are sorted."""
        self._stopping.clear()
        ((end,),) = cursor.execute("SELECT max(first_day + days) FROM sorted_periods").fetchall()
        self._end = end or date.min

    def stop(self) -> None:
        """Let a call of `sort` in another thread end soon, without a change."""
        self._stopping.set()

    def note_late(self, cursor: duckdb.DuckDBPyConnection, hits: Iterable[Hit]) -> None:
        """Count hits of sorted periods; commits nothing."""
        late = Counter(day for hit in hits if (day := hit.ts.date()) < self._end)
        if late:
            self._finished = None
            run(cursor, "sql/note_late.sql", {"days": list(late), "counts": list(late.values())})

    def sort(
        self, cursor: duckdb.DuckDBPyConnection, last: date, without_appends: AbstractContextManager[object]
    ) -> bool:
        """Sort a period that ended by a day, if one is left; return whether one was."""
        if last == self._finished:
            return False
        self._finished = last  # before the query, since hits may arrive late meanwhile
        values = {"last": last, "lengths": LENGTHS, "least": LEAST_HITS, "most": MOST_HITS}
        found = run(cursor, "sql/unsorted_period.sql", values)
        if not found:
            return False
        self._finished = None
        period = Period(*found[0])
        whole = period.of(HITS)
        counted = (
            f"SELECT count(*), coalesce(min(site_uuid) <> max(site_uuid), false) FROM hits WHERE {whole.condition}"  # noqa: S608 - the names are this package's own
        )
        ((hits, has_several_sites),) = cursor.execute(counted, whole.values).fetchall()
        moves = has_several_sites and hits >= LEAST_HITS
        if moves:
            cursor.execute("BEGIN")
            if not self._move(cursor, HITS, whole):
                return False
            cursor.execute("COMMIT")
        with without_appends:
            cursor.execute("BEGIN")
            if moves and not self._move(cursor, SESSIONS, period.of(SESSIONS)):
                return False
            values = {"first_day": period.first_day, "days": period.days, "end": period.end, "hits": hits}
            run(cursor, "sql/note_sorted.sql", values)
            # Set before the commit, which may take effect even if it fails.
            self._end = max(self._end, period.end)
            cursor.execute("COMMIT")
        return True

    def _move(self, cursor: duckdb.DuckDBPyConnection, table: Table, whole: Piece) -> bool:
        """Move rows; return whether the store did not stop meanwhile. Commits nothing."""
        # Rows that a transaction inserts have higher row numbers than all others.
        ((last_row,),) = cursor.execute(f"SELECT max(rowid) FROM {table.path}").fetchall()  # noqa: S608
        moved = 0
        for piece in split(cursor, table, self._piece_bytes, whole):
            if self._stopping.is_set():
                return False
            selected = (
                f"SELECT * FROM {table.path} WHERE {piece.condition} AND rowid <= $last_row ORDER BY {table.order}"  # noqa: S608
            )
            values = piece.values | {"last_row": last_row}
            moved += cursor.execute(f"INSERT INTO {table.path} BY NAME {selected}", values).fetchall()[0][0]
        deleted = f"DELETE FROM {table.path} WHERE {whole.condition} AND rowid <= $last_row"  # noqa: S608
        ((rows,),) = cursor.execute(deleted, whole.values | {"last_row": last_row}).fetchall()
        if rows != moved:
            raise duckdb.InternalException(f"{moved} of {rows} rows were moved")
        return True
