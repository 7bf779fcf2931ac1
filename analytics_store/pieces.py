"""Split a table into pieces of bounded size, in the order of time.

DuckDB sorts more rows than fit in memory, but fails if they are wide. Statements on a whole table therefore run piece
by piece. The texts of the statements are this package's own; values are bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb

FIXED_BYTES = 100
"""Size of a row without its texts, in bytes."""
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC without a zone, as in the whole store
MICROSECOND = timedelta(microseconds=1)
TIME_UNITS = (timedelta(days=1), timedelta(minutes=1), timedelta(milliseconds=1))
"""Lengths of the time ranges that are counted; the finer ones only within a range that is too large."""
ROWS_AT_ONCE = 64
"""Rows of a millisecond that is too large are counted in groups of this many."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the column of its time; `name` restricts the rows to one data source."""

    path: str
    time: str
    name: str | None = None

    @property
    def piece(self) -> str:
        """Return the condition of the rows of a piece, which binds the values of Piece.values()."""
        restriction = "" if self.name is None else " AND name = $name"
        return f"{self.time} >= $since AND {self.time} < $until AND rowid BETWEEN $first_row AND $last_row{restriction}"


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows in a range of time, and in a range of row numbers."""

    since: datetime = datetime.min  # noqa: DTZ901 - UTC without a zone
    until: datetime = datetime.max  # noqa: DTZ901
    first_row: int = 0
    last_row: int = 2**62

    def values(self, table: Table) -> dict[str, Any]:
        """Return the values that the condition of the table's pieces binds."""
        values = {
            "since": self.since,
            "until": self.until,
            "first_row": self.first_row,
            "last_row": self.last_row,
        }
        return values if table.name is None else values | {"name": table.name}


def split(cursor: duckdb.DuckDBPyConnection, table: Table, most_bytes: int) -> Iterator[Piece]:
    """Split a table into pieces of at most `most_bytes`, in the order of time; a single row may be larger.

    The cursor may run other statements between two pieces. It needs a transaction, or a table without changes.
    """
    columns = cursor.table(table.path).description or ()
    texts = [f"strlen({name})" for name, kind, *_ in columns if str(kind) == "VARCHAR"]
    size = f"sum({' + '.join([str(FIXED_BYTES), *texts])})"
    return _split(cursor, table, size, Piece(), most_bytes, (*TIME_UNITS, None))


def _split(
    cursor: duckdb.DuckDBPyConnection,
    table: Table,
    size: str,
    whole: Piece,
    most_bytes: int,
    units: tuple[timedelta | None, ...],
) -> Iterator[Piece]:
    unit, *finer = units
    group = f"rowid // {ROWS_AT_ONCE}" if unit is None else f"epoch_us({table.time}) // {unit // MICROSECOND}"
    sizes = f"SELECT {group}, {size} FROM {table.path} WHERE {table.piece} GROUP BY ALL ORDER BY 1"  # noqa: S608
    counted = cursor.execute(sizes, whole.values(table)).fetchall()
    collected: Piece | None = None
    collected_bytes = 0
    for number, group_bytes in counted:
        piece = _piece(whole, unit, number)
        if collected is not None and collected_bytes + group_bytes <= most_bytes:
            collected = replace(collected, until=piece.until, last_row=piece.last_row)
            collected_bytes += group_bytes
            continue
        if collected is not None:
            yield collected
        collected, collected_bytes = piece, group_bytes
        if group_bytes > most_bytes and finer:
            yield from _split(cursor, table, size, piece, most_bytes, tuple(finer))
            collected = None
    if collected is not None:
        yield collected


def _piece(whole: Piece, unit: timedelta | None, number: int) -> Piece:
    if unit is None:
        return replace(whole, first_row=number * ROWS_AT_ONCE, last_row=(number + 1) * ROWS_AT_ONCE - 1)
    since = EPOCH + number * unit
    return replace(whole, since=since, until=since + unit)
