"""Read SQL files, repeat their lines for each column of a list, and run them with the values that they bind."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb

from analytics_store.columns import ENTRY, FACTS, HIT_FILTERS, OTHER_STATUS, STATUSES, TEXTS

_PLACEHOLDERS = {
    "@field": tuple(TEXTS),
    "@text": tuple(TEXTS.values()),
    "@entry": ENTRY,
    "@fact": FACTS,
    "@status": tuple(STATUSES),
    "@bit": tuple(map(str, STATUSES.values())),
    "@other": (str(OTHER_STATUS),),
    "@filter": HIT_FILTERS,
}


_parsed: dict[str, list[duckdb.Statement]] = {}
"""Statements by path: DuckDB parses one in 0.1 to 0.3 ms."""


@cache
def read_sql(path: str) -> str:
    """Read an SQL file of this package, with its placeholders filled in."""
    return repeat_lines(files("analytics_store.duckdb_engine").joinpath(path).read_text("utf-8"))


@cache
def list_parameters(sql: str) -> frozenset[str]:
    """List the parameters that a statement binds."""
    return frozenset(re.findall(r"\$([a-z_]+)", re.sub(r"--[^\n]*", "", sql)))


def run(cursor: duckdb.DuckDBPyConnection, path: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run a file of statements, each with the values that it binds; return the rows of the last."""
    parts = _parsed.get(path)
    if parts is None:
        parts = _parsed[path] = cursor.extract_statements(read_sql(path))
    for part in parts:
        cursor.execute(part, {name: values[name] for name in list_parameters(part.query)})
    return cursor.fetchall()


def repeat_lines(sql: str) -> str:
    """Repeat each line that holds a placeholder for every name of the placeholder's list; @nth counts them from 1."""
    lines = []
    for line in sql.splitlines():
        placeholders = re.findall(r"@(?!nth)[a-z]+", line)
        lists = [_PLACEHOLDERS[placeholder] for placeholder in placeholders]
        for nth, names in enumerate(zip(*lists, strict=True) if lists else [()], 1):
            repeated = line.replace("@nth", str(nth))
            for placeholder, name in zip(placeholders, names, strict=True):
                repeated = repeated.replace(placeholder, name, 1)
            lines.append(repeated)
    return "\n".join(lines) + "\n"
