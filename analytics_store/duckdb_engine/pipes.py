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
COUNTED = {
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
    return select(shared + read_sql(f"pipes/{pipe}.sql"), given | _session_rules(pipe, given))


def _session_rules(pipe: str, given: frozenset[str]) -> set[str]:
    """Return which sessions their rows tell, and which columns of the first hit the pipe needs."""
    counted = COUNTED.get(pipe)
    # The row of a session that is cut at the end still tells the first hit, and what all its hits share.
    begun = not given.isdisjoint({"any_hit_filter", "only_begun"}) or ("since_edge" in given and counted not in FACTS)
    ended = "any_hit_filter" in given or ("until_edge" in given and pipe == KPIS)
    rules = {
        "told_if_begun": begun,
        "told_if_ended": ended,
        "told_by_an_end": not begun and not ended,
        "hits_decide": "any_hit_filter" in given or not given.issuperset({"since_edge", "until_edge"}),
        "hits_used_twice": "only_hits_tell" in given and not given.isdisjoint({"by_hit", "only_begun"}),
        "open_if_earlier": begun and ("since_edge" in given or "only_begun" not in given),
    }
    columns = given | {counted}
    return (
        {name for name, holds in rules.items() if holds}
        | {f"needs_{entry}" for entry in ENTRY if entry in columns}
        | {f"told_by_{fact}" for fact in FACTS if fact in given or (fact == counted and "only_hits_tell" not in given)}
    )


def select(sql: str, given: frozenset[str]) -> str:
    """Leave out each line that ends with `-- if NAME` if NAME is not given; with `-- if not NAME` if it is.

    DuckDB plans a short statement in half the time.
    """
    return _LINE.sub(lambda match: f"{match[1]}\n" if (match[3] in given) != bool(match[2]) else "", sql)
