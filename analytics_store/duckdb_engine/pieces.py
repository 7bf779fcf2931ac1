"""Split a table into pieces of bounded size, in the order of its columns.

DuckDB sorts more rows than fit in memory, but fails if they are wide. Statements on a whole table therefore run piece
by piece. The texts of the statements are this package's own; values are bound.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

FIXED_BYTES = 100
"""Size of a row without its texts, in bytes."""
TIME_UNITS = (86_400_000_000, 60_000_000, 1_000)
"""Lengths of the time ranges that are counted, in microseconds; the finer ones only in a range that is too large."""
ROWS_AT_ONCE = 64
"""Rows of a millisecond that is too large are counted in groups of this many."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the order of its pieces: the column of its time, and a column that precedes it, if any."""

    path: str
    time: str
    first: str | None = None

    @property
    def order(self) -> str:
        """Return the columns of ORDER BY."""
        return self.time if self.first is None else f"{self.first}, {self.time}"

    def groups(self) -> list[tuple[str, str]]:
        """Return columns and the expressions by which their rows are counted, the coarse ones first."""
        first = [] if self.first is None else [(self.first, self.first)]
        times = [(self.time, f"epoch_us({self.time}) // {unit}") for unit in TIME_UNITS]
        return [*first, *times, ("rowid", f"rowid // {ROWS_AT_ONCE}")]


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows whose columns are in ranges, each from a first to a last value."""

    ranges: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def condition(self) -> str:
        """Return the condition of the piece's rows, which binds `values`."""
        return (
            " AND ".join([f"{column} BETWEEN $first_{column} AND $last_{column}" for column in self.ranges]) or "true"
        )

    @property
    def values(self) -> dict[str, Any]:
        """Return the values that the condition binds."""
        firsts = {f"first_{column}": first for column, (first, _) in self.ranges.items()}
        return firsts | {f"last_{column}": last for column, (_, last) in self.ranges.items()}


def split(cursor: duckdb.DuckDBPyConnection, table: Table, most_bytes: int, whole: Piece = Piece()) -> Iterator[Piece]:
    """Split a table, or a piece of it, into pieces of at most `most_bytes`; a single row may be larger.

    The cursor may run other statements between two pieces. It needs a transaction, or a table without changes.
    """
    columns = cursor.table(table.path).description or ()
    texts = [f"coalesce(strlen({name}), 0)" for name, kind, *_ in columns if str(kind) == "VARCHAR"]
    row_bytes = " + ".join([str(FIXED_BYTES), *texts])
    return _split(cursor, table.path, row_bytes, whole, most_bytes, table.groups())


def _split(
    cursor: duckdb.DuckDBPyConnection,
    path: str,
    row_bytes: str,
    whole: Piece,
    most_bytes: int,
    groups: list[tuple[str, str]],
) -> Iterator[Piece]:
    (column, group), *finer = groups
    # Adjacent groups of at most half a piece are joined until they exceed that half; larger groups stay alone.
    joined = f"""
        WITH counted AS (
            SELECT min({column}) AS first, max({column}) AS last, sum({row_bytes}) AS bytes
            FROM {path} WHERE {whole.condition} GROUP BY {group}
        ), numbered AS (
            SELECT *, (sum(bytes) OVER (ORDER BY first) - bytes) // $half AS number FROM counted
        )
        SELECT min(first), max(last), sum(bytes) FROM numbered GROUP BY number, bytes > $half ORDER BY 1
    """  # noqa: S608
    for first, last, piece_bytes in cursor.execute(joined, whole.values | {"half": most_bytes // 2}).fetchall():
        piece = Piece({**whole.ranges, column: (first, last)})
        if piece_bytes > most_bytes and finer:
            yield from _split(cursor, path, row_bytes, piece, most_bytes, finer)
        else:
            yield piece
