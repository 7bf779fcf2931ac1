"""Find the statement of each pipe, and the definitions that several statements share."""

from analytics_store.duckdb_engine.statements import read_sql

WEB = "pipes/_web.sql"
AUTOMATIONS = "pipes/_automations.sql"
SHARED = {"api_kpis": WEB, "api_top_": WEB, "api_automation_": AUTOMATIONS}
"""Beginnings of names, and definitions in front of their statements.

WEB: the hits and sessions that meet the filters of a web endpoint. AUTOMATIONS: the version of a row that counts.
"""


def statement(pipe: str) -> str:
    """Return the whole statement of a pipe."""
    own = read_sql(f"pipes/{pipe}.sql")
    return "".join(read_sql(path) for beginning, path in SHARED.items() if pipe.startswith(beginning)) + own
