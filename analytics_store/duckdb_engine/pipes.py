"""Build the statement of each pipe from its parts, without the conditions that a query has no values for."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from analytics_store.columns import ENTRY, FACTS
from analytics_store.duckdb_engine.statements import read_sql

WEB = "pipes/_web.sql"
AUTOMATIONS = "pipes/_automations.sql"
SITES = "pipes/_sites.sql"
SHARED = {"api_kpis": WEB, "api_top_": WEB, "api_automation_": AUTOMATIONS, "api_sites": SITES}
"""Beginnings of names, and definitions in front of their statements.

WEB: the hits and sessions that meet the filters of a web endpoint. AUTOMATIONS: the version of a row that counts.
SITES: the sites and their hosts.
"""
KPIS = "api_kpis"
PAGES = "api_top_pages"
PAGES_BY_DAY = "pipes/api_top_pages_by_day.sql"
SHORTEST_BY_DAY = timedelta(days=14)
"""Shortest range for which reading the table of pages by day is quicker than reading the hits."""
COLUMNS = {
    "api_top_sources": "source",
    "api_top_devices": "device",
    "api_top_utm_sources": "utm_source",
    "api_top_utm_mediums": "utm_medium",
    "api_top_utm_campaigns": "utm_campaign",
    "api_top_utm_terms": "utm_term",
    "api_top_utm_contents": "utm_content",
    "api_top_locations": "location",
    "api_top_os": "os",
    "api_top_browsers": "browser",
}
"""Column of each pipe that counts sessions by the values of one; it is the `{column}` of TOP_ENTRIES or TOP_FACTS."""
TOP_ENTRIES = "pipes/_top_entries.sql"
TOP_FACTS = "pipes/_top_facts.sql"
FLAGS = {"any_hit_filter", "only_hits_tell", "only_begun", "by_hit"}
"""Values that are conditions by themselves."""

_LINE = re.compile(r"^(.*\S)  -- if (not )?(\w+)\n", re.MULTILINE)


def statement(pipe: str, values: Mapping[str, Any], busy_sites: frozenset[str]) -> str:
    """Return the statement of a pipe for these values; `busy_sites` are in the table of pages by day."""
    given = {name for name, value in values.items() if value is not None and (value or name not in FLAGS)}
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
    return select(shared + _read_pipe(pipe), given | _session_rules(pipe, given))


def _read_pipe(pipe: str) -> str:
    column = COLUMNS.get(pipe)
    if column is None:
        return read_sql(f"pipes/{pipe}.sql")
    return read_sql(TOP_FACTS if column in FACTS else TOP_ENTRIES).replace("{column}", column)


def _session_rules(pipe: str, given: frozenset[str]) -> set[str]:
    """Name the conditions of WEB that follow from the pipe, and from several values together."""
    column = COLUMNS.get(pipe)
    has_hit_filter, only_begun = "any_hit_filter" in given, "only_begun" in given
    # The row of a session that is cut at its end has its first hit; that of any cut session, the FACTS of all its hits.
    begun = has_hit_filter or only_begun or ("since_edge" in given and column not in FACTS)
    ended = has_hit_filter or ("until_edge" in given and pipe == KPIS)
    rules = {
        "told_if_begun": begun,
        "told_if_ended": ended,
        "told_by_an_end": not begun and not ended,
        "open_if_earlier": begun and ("since_edge" in given or not only_begun),
        "hits_decide": has_hit_filter or not given.issuperset({"since_edge", "until_edge"}),
        "hits_used_twice": "only_hits_tell" in given and (only_begun or "by_hit" in given),
        "leaves_out_empty": column is not None and column.startswith("utm_"),
    }
    for entry in ENTRY:
        rules[f"needs_{entry}"] = entry in given or entry == column
    for fact in FACTS:
        rules[f"told_by_{fact}"] = fact in given or (fact == column and "only_hits_tell" not in given)
    return {name for name, holds in rules.items() if holds}


def select(sql: str, given: frozenset[str]) -> str:
    """Leave out each line that ends with `-- if NAME` if NAME is not given; with `-- if not NAME` if it is.

    DuckDB plans a short statement in half the time.
    """
    return _LINE.sub(lambda match: f"{match[1]}\n" if (match[3] in given) != bool(match[2]) else "", sql)
