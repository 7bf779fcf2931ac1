"""Define the operator's command `stats`: what became of the hits."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import click

from traffic_analytics.counts.tally import OTHER_SITES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from traffic_analytics.counts.file import BySite, CountFile
    from traffic_analytics.hits.outcomes import Counted

COLUMNS = {
    "accepted": {"accepted"},
    "bots": {"bot"},
    "ignored": {"ignored"},
    "spam": {"spam"},
    "refused": {"refused", "invalid", "unsigned"},
    "failed": {"unavailable", "failed"},
}
"""Columns of the table, each with the outcomes that it sums up."""


def stats_command(file: CountFile, clock: Callable[[], datetime]) -> click.Command:
    """Make the command that shows the counts of hits."""

    @click.command("stats")
    @click.option("--json", "as_json", is_flag=True, help="All counts, for programs.")
    def stats(as_json: bool) -> None:
        """Show hits by site and outcome, since the start and today (UTC), of all worker processes."""
        try:
            counts = file.read(clock().date())
        except sqlite3.Error as error:
            raise click.ClickException(f"the counts cannot be read: {error}") from None
        if as_json:
            periods = {"start": counts.since_start, "today": counts.today}
            facts: dict[str, Any] = {name: _listed(each) for name, each in periods.items()}
            click.echo(json.dumps({"started": counts.started or None, "day": counts.day, **facts}, indent=2))
            return
        since = counts.started or "an unknown time"
        for title, each in ((f"Since the start, {since}", counts.since_start), (f"Today, {counts.day}", counts.today)):
            click.echo("\n".join([title, *_table(each), ""]))

    return stats


def _listed(by_site: BySite) -> list[dict[str, Any]]:
    return [
        {"site": site or None, "outcome": kind.outcome, "rule": kind.rule or None, "hits": number}
        for site, kinds in sorted(by_site.items())
        for kind, number in sorted(kinds.items())
    ]


def _table(by_site: BySite) -> Iterator[str]:
    if not by_site:
        yield "  no hits"
        return
    total: dict[Counted, int] = {}
    rows = []
    for site, kinds in by_site.items():
        rows.append((site, _row(kinds)))
        for kind, number in kinds.items():
            total[kind] = total.get(kind, 0) + number
    # Most hits first; the sum of other sites last.
    rows.sort(key=lambda row: (row[0] == OTHER_SITES, [-number for number in row[1]]))
    yield _line("site", [*COLUMNS])
    for site, numbers in rows:
        yield _line(site or "all other sites", numbers)
    yield _line("total", _row(total))
    rules = [(f"{kind.outcome} {kind.rule}", number) for kind, number in total.items() if kind.rule]
    if rules:
        rules.sort(key=lambda each: (-each[1], each[0]))
        yield "  by rule: " + ", ".join(f"{name} {number}" for name, number in rules)


def _row(kinds: dict[Counted, int]) -> list[int]:
    return [sum(number for kind, number in kinds.items() if kind.outcome in outcomes) for outcomes in COLUMNS.values()]


def _line(name: str, cells: list[Any]) -> str:
    return f"  {name:<36}" + "".join(f"{cell!s:>10}" for cell in cells)
