"""Move the rows of a finished day into the order of site and time, so that a query of one site skips the other sites.

Rows move inside their table, by one transaction, so that no other part of the engine knows of it. DuckDB skips the
2 048 rows of a vector if none is of the site, and frees the space of old rows when all rows beside them have moved.
"""

from datetime import date, datetime, time, timedelta

import duckdb

from analytics_store.duckdb_engine.pieces import Piece, Table, split

SORTED_TABLES = (Table("hits", "ts", "site_uuid"), Table("sessions", "first_ts", "site_uuid"))
LEAST_HITS = 20_000
"""Least hits of a day to sort; fewer are read in a millisecond."""
ONE_MICROSECOND = timedelta(microseconds=1)


def sort_day(cursor: duckdb.DuckDBPyConnection, day: date, piece_bytes: int) -> None:
    """Sort the rows of a day (UTC) that has at least LEAST_HITS of several sites, once; commits nothing."""
    first = datetime.combine(day, time())
    last = first + timedelta(days=1) - ONE_MICROSECOND
    counted = "SELECT count(*), min(site_uuid) <> max(site_uuid) FROM hits WHERE ts BETWEEN $first AND $last"
    ((hits, has_several_sites),) = cursor.execute(counted, {"first": first, "last": last}).fetchall()
    if hits < LEAST_HITS or not has_several_sites:
        return
    if cursor.execute("SELECT 1 FROM sorted_days WHERE day = $day", {"day": day}).fetchall():
        return
    for table in SORTED_TABLES:
        _sort(cursor, table, Piece({table.time: (first, last)}), piece_bytes)
    cursor.execute("INSERT INTO sorted_days VALUES ($day)", {"day": day})


def _sort(cursor: duckdb.DuckDBPyConnection, table: Table, whole: Piece, piece_bytes: int) -> None:
    # Rows that a transaction inserts have higher row numbers than all others.
    ((last_row,),) = cursor.execute(f"SELECT max(rowid) FROM {table.path}").fetchall()  # noqa: S608 - the names are this package's own
    moved = 0
    for piece in split(cursor, table, piece_bytes, whole):
        selected = f"SELECT * FROM {table.path} WHERE {piece.condition} AND rowid <= $last_row ORDER BY {table.order}"  # noqa: S608
        values = piece.values | {"last_row": last_row}
        moved += cursor.execute(f"INSERT INTO {table.path} BY NAME {selected}", values).fetchall()[0][0]
    deleted = f"DELETE FROM {table.path} WHERE {whole.condition} AND rowid <= $last_row"  # noqa: S608
    ((rows,),) = cursor.execute(deleted, whole.values | {"last_row": last_row}).fetchall()
    if rows != moved:
        raise duckdb.InternalException(f"{moved} of {rows} rows were moved")
