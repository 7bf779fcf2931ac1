"""Define the commands for events that wait in the spool, and for its dead letters."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from flask.cli import AppGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traffic_analytics.delivery.spool import Spool, StoredEvent


def spool_commands(spool: Spool | None) -> AppGroup:
    """Return the group of commands; without a spool each of them explains why there is none."""
    group = AppGroup("spool", help="Show and manage events that wait for Tinybird or were set aside.")

    def require_spool() -> Spool:
        if spool is None:
            raise click.ClickException("there is no spool without TINYBIRD_TRACKER_TOKEN")
        return spool

    def list_spooled(*, waiting: bool) -> Iterator[StoredEvent]:
        return require_spool().list_waiting() if waiting else require_spool().list_dead_letters()

    @group.command("status")
    def status() -> None:
        """Show how many events wait, since when, and how many were set aside."""
        backlog = require_spool().backlog()
        click.echo(f"waiting    {backlog.waiting}")
        if backlog.oldest is not None:
            age = time.time() - backlog.oldest  # noqa: TID251
            click.echo(f"oldest     {_format(backlog.oldest)} ({age:.0f} s ago)")
        click.echo(f"set aside  {backlog.dead_letters}")
        click.echo(f"size       {backlog.bytes_used / 1e6:.1f} MB")

    @group.command("list")
    @click.option("--waiting", is_flag=True, help="Waiting events instead of those set aside.")
    def list_events(waiting: bool) -> None:
        """List events: number, time of arrival, data source, size, reason for setting aside."""
        for each in list_spooled(waiting=waiting):
            click.echo(f"{each.id}  {_format(each.received)}  {each.data_source}  {len(each.event)} B  {each.reason}")

    @group.command("retry")
    @click.argument("ids", nargs=-1, type=int)
    @click.option("--all", "everything", is_flag=True, help="All events that were set aside.")
    def retry(ids: tuple[int, ...], everything: bool) -> None:
        """Queue events again that were set aside: those with the given numbers, or --all."""
        if bool(ids) == everything:
            raise click.UsageError("give the numbers of events, or --all")
        click.echo(f"{require_spool().requeue(None if everything else ids)} events wait again")

    @group.command("export")
    @click.option("--waiting", is_flag=True, help="Waiting events instead of those set aside.")
    @click.option("--data-source", default="analytics_events", show_default=True)
    def export(waiting: bool, data_source: str) -> None:
        """Write events as NDJSON, ready to be posted to Tinybird; they stay in the spool."""
        left_out: Counter[str] = Counter()
        for each in list_spooled(waiting=waiting):
            if each.data_source == data_source:
                sys.stdout.buffer.write(each.event + b"\n")
            else:
                left_out[f"--data-source {each.data_source}"] += 1
        backlog = require_spool().backlog()
        if waiting:
            left_out["spool export without --waiting"] = backlog.dead_letters
        else:
            left_out["--waiting"] = backlog.waiting
        for option, number in left_out.items():
            if number:
                click.echo(f"left out: {number} events; {option} exports them", err=True)

    @group.command("purge")
    @click.confirmation_option(prompt="Delete all events that were set aside?")
    def purge() -> None:
        """Delete the events that were set aside."""
        click.echo(f"{require_spool().purge_dead_letters()} events deleted")

    return group


def _format(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
