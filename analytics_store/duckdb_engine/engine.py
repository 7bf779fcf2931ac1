"""Keep the rows of a store in one DuckDB file, and answer its queries."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import duckdb

from analytics_store.duckdb_engine.append import Appender
from analytics_store.duckdb_engine.compaction import compact
from analytics_store.duckdb_engine.database import Database
from analytics_store.duckdb_engine.export import count, export
from analytics_store.duckdb_engine.pipes import AUTOMATIONS, SITES, select, statement
from analytics_store.duckdb_engine.settling import Settling, check
from analytics_store.duckdb_engine.sorting import Sorting
from analytics_store.duckdb_engine.statements import read_sql, run
from analytics_store.engine import Quarantined, Result
from analytics_store.errors import RefusedRowsError
from analytics_store.events import Row
from analytics_store.settings import Settings

PIECES_IN_MEMORY = 16
"""Share of STORE_MEMORY_MB that a piece of a table may fill: sorting and writing it takes several times its size."""
TINYBIRD_TYPES = {
    "VARCHAR": "String",
    "BIGINT": "Int64",
    "BIGINT[]": "Array(Int64)",
    "DOUBLE": "Float64",
}


class DuckDbEngine:
    """Implement `engine.Engine`; the file is opened on first use, so that an import of the app opens no file."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings)
        self._piece_bytes = settings.memory_mb * 2**20 // PIECES_IN_MEMORY
        # Held while `append` or `sort` changes sessions; all other writers run alone.
        self._changing_sessions = threading.Lock()
        self._settling = Settling()
        self._sorting = Sorting(self.database, self._changing_sessions, self._piece_bytes)
        self._appender = Appender(self._settling, self._sorting)

    def open(self) -> None:
        """Open or create the file. Raises DamagedFile, or UnavailableError if another process has it."""
        with self.database.cursor() as cursor:
            self._settling.load(cursor)
            self._sorting.load(cursor)

    def close(self) -> None:
        """Write everything to the file and close it."""
        self.database.close()

    def ping(self) -> None:
        """Run the least query."""
        self.database.query("SELECT 1", {})

    def ask(self, pipe: str, values: Mapping[str, Any]) -> Result:
        """Run the query of a pipe."""
        result = self.database.query(statement(pipe, values, self._settling.busy_sites), values)
        return replace(result, columns=[(name, TINYBIRD_TYPES.get(kind, kind)) for name, kind in result.columns])

    def position(self) -> int:
        """Return the journal's position of the last append."""
        return self._count("SELECT position FROM journal")

    def append(self, rows: list[Row], position: int | None) -> int:
        """Commit rows and the journal's position; DuckDB has synced its log before this returns."""
        with self._changing_sessions, self.database.cursor() as cursor:
            try:
                return self._appender.append(cursor, rows, position)
            except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException) as error:
                raise RefusedRowsError(f"DuckDB refused a value: {type(error).__name__}") from error

    def export(self, name: str, site: str | None = None) -> tuple[int, Iterator[bytes]]:
        """Count the rows of a data source, and write them as NDJSON, in one transaction."""
        with ExitStack() as opened:
            cursor = opened.enter_context(self.database.cursor())
            cursor.execute("BEGIN")
            rows = count(cursor, name, site)
            return rows, _close_after(opened.pop_all(), export(cursor, name, self._piece_bytes, site))

    def sites(self) -> list[dict[str, Any]]:
        """Return each site with its host and the counts of its content."""
        result = self.database.query(select(read_sql(SITES) + read_sql("sql/sites.sql"), frozenset()), {})
        names = [name for name, _ in result.columns]
        return [dict(zip(names, row, strict=True)) for row in result.rows]

    def count_versions(self) -> int:
        """Return the number of rows of automations, with every version counted."""
        return self._count(read_sql(AUTOMATIONS) + read_sql("sql/count_versions.sql"))

    def collapse(self) -> int:
        """Delete old versions by one statement, so a store that is killed meanwhile still has them all."""
        with self.database.cursor() as cursor:
            deleted: int = cursor.execute(read_sql(AUTOMATIONS) + read_sql("sql/collapse.sql")).fetchall()[0][0]
        return deleted

    def forget(self, before: datetime, site: str | None = None, but: Collection[str] = ()) -> int:
        """Delete the rows before a time in one transaction."""
        return self._delete("sql/delete_expired.sql", {"before": before, "site": site, "but": sorted(but)})

    def erase(self, site: str) -> int:
        """Delete all rows of a site in one transaction."""
        return self._delete("sql/delete_site.sql", {"site": site})

    def quarantined(self) -> list[Quarantined]:
        """Return the rows in quarantine."""
        return [Quarantined(*row) for row in self.database.query(read_sql("sql/quarantined.sql"), {}).rows]

    def release(self, ids: Collection[str]) -> int:
        """Delete rows in quarantine."""
        with self.database.cursor() as cursor:
            deleted: int = run(cursor, "sql/delete_quarantined.sql", {"ids": sorted(ids)})[0][0]
        return deleted

    def has_unsettled(self, last: date) -> bool:
        """Return whether `settle` has something to do."""
        with self.database.cursor() as cursor:
            return self._settling.is_due(cursor, last)

    def settle(self, last: date) -> None:
        """Settle the newest day that is not, in one transaction."""
        with self.database.cursor() as cursor:
            self._settling.settle(cursor, last)

    def sort(self, last: date) -> bool:
        """Sort a period that ended by a day; appends wait while sessions move."""
        return self._sorting.sort(last)

    def stop_sorting(self) -> None:
        """End a call of `sort` in another thread soon; what it has not committed is rolled back."""
        self._sorting.stop()

    def check(self) -> dict[str, int]:
        """Compare what is derived from the hits with them, in one snapshot."""
        with self.database.cursor() as cursor:
            return check(cursor)

    def compact(self) -> None:
        """Replace the file by one in the order of site and time; that file needs space beside it."""
        compact(self.database, self._piece_bytes)

    def info(self) -> dict[str, Any]:
        """Return the counts of the content."""
        result = self.database.query(read_sql("sql/info.sql"), {})
        return dict(zip([name for name, _ in result.columns], result.rows[0], strict=True))

    def size(self) -> int:
        """Return the bytes of the file and of its log."""
        return self.database.size()

    def free_bytes(self) -> int:
        """Return the bytes of the file that hold nothing."""
        return self._count(
            "SELECT free_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
        )

    def checkpoint(self) -> None:
        """Write the log to the file; while another transaction is open, DuckDB refuses, and the log stays."""
        self.database.checkpoint()

    def _delete(self, path: str, values: dict[str, Any]) -> int:
        """Run statements whose first deletes hits, in one transaction; return how many hits were deleted."""
        with self.database.cursor() as cursor:
            cursor.execute("BEGIN")
            before = cursor.execute("SELECT count(*) FROM hits").fetchall()[0][0]
            run(cursor, path, values)
            after = cursor.execute("SELECT count(*) FROM hits").fetchall()[0][0]
            cursor.execute("COMMIT")
        deleted: int = before - after
        return deleted

    def _count(self, sql: str) -> int:
        found: int = self.database.query(sql, {}).rows[0][0]
        return found


def _close_after(opened: ExitStack, lines: Iterator[bytes]) -> Iterator[bytes]:
    with opened:
        yield from lines
