"""Fill the tables of a store with hits that DuckDB generates, a million in some seconds."""

from datetime import datetime
from pathlib import Path

import duckdb

from analytics_store.duckdb_engine.statements import list_parameters

SQL = Path(__file__).with_name("generate_hits.sql").read_text()
HITS_PER_SESSION = 5.5


def of_one_site(connection: duckdb.DuckDBPyConnection, site: str) -> None:
    """Define the macros for hits of one site, in the order of time."""
    connection.execute(f"CREATE TEMP MACRO site_of(i) AS '{site}'")
    connection.execute("CREATE TEMP MACRO lies_by_site(ts) AS false")


def generate_hits(
    connection: duckdb.DuckDBPyConnection, start: datetime, days: int, sessions: int, first: int, last: int
) -> None:
    """Add the sessions `first` to `last` of so many in so many days; the macros of `generate_hits.sql` must exist."""
    values = {"start": start, "span": days * 86_400, "sessions": sessions, "first": first, "last": last}
    for part in connection.extract_statements(SQL):
        connection.execute(part, {name: values[name] for name in list_parameters(part.query)})
