"""Build the statement of each pipe from its parts, without the conditions that a query has no values for."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from analytics_store.columns import FACTS
from analytics_store.duckdb_engine.statements import read_sql

WEB = "pipes/_web.sql"
AUTOMATIONS = "pipes/_automations.sql"
SITES = "pipes/_sites.sql"
SHARED = {"api_kpis": WEB, "api_top_": WEB, "api_automation_": AUTOMATIONS, "api_sites": SITES}
"""Beginnings of names, and definitions in front of their statements.

WEB: the hits and sessions that meet the filters of a web endpoint. AUTOMATIONS: the version of a row that counts.
SITES: the sites and their hosts.
"""
PAGES = "api_top_pages"
PAGES_BY_DAY = "pipes/api_top_pages_by_day.sql"
SHORTEST_BY_DAY = timedelta(days=14)
"""Shortest range for which reading the table of pages by day is quicker than reading the hits."""
COUNTED_FACTS = {"api_top_locations": "location", "api_top_os": "os", "api_top_browsers": "browser"}
FLAGS = {"any_hit_filter", "only_hits_tell", "only_begun"}
"""Values that are conditions by themselves."""

_LINE = re.compile(r"^(.*\S)  -- if (not )?(\w+)\n", re.MULTILINE)


def statement(pipe: str, values: Mapping[str, Any], busy_sites: frozenset[str]) -> str:
    """Return the statement of a pipe for these values; `busy_sites` are in the table of pages by day."""
    given = {name for name, value in values.items() if value is not None and (value or name not in FLAGS)}
    if not values.get("only_hits_tell"):
        # These must be the same for all hits of a session that is told by its row.
        given |= {f"told_by_{fact}" for fact in FACTS if fact in given or COUNTED_FACTS.get(pipe) == fact}
    if pipe == PAGES and _is_by_day(values, busy_sites):
        return _by_day(frozenset(given))
    return _compose(pipe, frozenset(given))


def _is_by_day(values: Mapping[str, Any], busy_sites: frozenset[str]) -> bool:
    has_filter = values["only_begun"] or values["only_hits_tell"] or any(values[fact] is not None for fact in FACTS)
    is_long = values["until"] - values["since"] >= SHORTEST_BY_DAY
    return is_long and not has_filter and values["site_uuid"] in busy_sites


@cache
def _by_day(given: frozenset[str]) -> str:
    return select(read_sql(PAGES_BY_DAY), given)


@cache
def _compose(pipe: str, given: frozenset[str]) -> str:
    shared = "".join(read_sql(path) for beginning, path in SHARED.items() if pipe.startswith(beginning))
    return select(shared + read_sql(f"pipes/{pipe}.sql"), given)


def select(sql: str, given: frozenset[str]) -> str:
    """Leave out each line that ends with `-- if NAME` if NAME is not given; with `-- if not NAME` if it is.

    DuckDB plans a short statement in half the time.
    """
    return _LINE.sub(lambda match: f"{match[1]}\n" if (match[3] in given) != bool(match[2]) else "", sql)
