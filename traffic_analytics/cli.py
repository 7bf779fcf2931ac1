"""Define the operator's commands: `flask --app app check` and `flask --app app spool …`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import click
import msgspec
from flask.cli import AppGroup

from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SaltUnavailable, SpoolUnavailable
from traffic_analytics.hits.enrich import enrich
from traffic_analytics.hits.page_hit import Payload, Query, RawHit
from traffic_analytics.hits.user_agent import UNKNOWN, UserAgent
from traffic_analytics.tinybird.events import Tinybird, events_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flask import Flask

    from traffic_analytics.delivery.spool import Spool, StoredEvent
    from traffic_analytics.delivery.target import Target
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.settings import Settings

_TEST_DATA_SOURCE = "analytics_events_test"


def register(
    app: Flask,
    settings: Settings,
    salts: Salts,
    spool: Spool | None,
    target: Target,
    **more: Callable[[], str | None],
) -> None:
    """Add the commands to the app; `more` are further checks by name, each returning a problem or None."""

    @app.cli.command("check")
    def check() -> None:
        """Check the whole configuration; exit with 1 if a check fails."""
        problems = 0
        for name, problem in _checks(settings, salts, spool, target, more):
            click.echo(f"{'FAIL' if problem else 'ok':<5} {name}" + (f": {problem}" if problem else ""))
            problems += problem is not None
        sys.exit(1 if problems else 0)

    app.cli.add_command(_spool_commands(spool))


def _checks(
    settings: Settings,
    salts: Salts,
    spool: Spool | None,
    target: Target,
    more: Mapping[str, Callable[[], str | None]],
) -> Iterator[tuple[str, str | None]]:
    """Check each part; yield its name and its problem, or None."""
    yield "settings", None  # the app starts with valid settings only
    try:
        probe = settings.data_dir / f".check-{uuid4().hex}"
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
        yield f"data directory {settings.data_dir}", None
    except OSError as error:
        yield f"data directory {settings.data_dir}", f"cannot be written: {error.strerror}"
    try:
        salts.check()
        yield f"salt store ({settings.salt_store_type})", None
    except SaltUnavailable as error:
        yield f"salt store ({settings.salt_store_type})", str(error)
    if spool is not None:
        try:
            spool.check()
            yield "spool", None
        except SpoolUnavailable as error:
            yield "spool", str(error)
    for name, check in more.items():
        yield name, check()
    if not isinstance(target, Tinybird):
        yield f"{target.NAME} topic", _explain_topic(target.post(_TEST_DATA_SOURCE, [_test_event()]))
        return
    where = f"Tinybird at {events_url(settings.proxy_target)}"
    if settings.tinybird_tracker_token is None:
        yield where, "TINYBIRD_TRACKER_TOKEN is not set: it can only be checked with a token; failed hits are lost"
        return
    yield where, _explain(target.post(_TEST_DATA_SOURCE, [_test_event()], wait=True))


def _explain_topic(reply: Reply) -> str | None:
    match reply.verdict:
        case Verdict.TAKEN:
            return None
        case Verdict.WRONG_SETUP:
            return (
                f"cannot be used ({reply.reason}): can the credentials be read, does the topic exist, and may this"
                " service publish to it?"
            )
    return f"cannot be reached ({reply.reason}): are project, credentials and network right?"


def _explain(reply: Reply) -> str | None:
    """Explain Tinybird's reply to the test event to the operator; None if all is well."""
    match reply.verdict:
        case Verdict.TAKEN if reply.quarantined:
            return "accepts events, but could not fit one into analytics_events_test: the data source is not Ghost's"
        case Verdict.TAKEN:
            return None
        case Verdict.WRONG_SETUP if reply.status in (401, 403):
            return f"refuses the token ({reply.reason}): it must be allowed to append to analytics_events_test"
        case Verdict.WRONG_SETUP:
            return f"cannot be found ({reply.reason}): is PROXY_TARGET the right region and path?"
        case Verdict.REFUSED:
            return f"refuses the event ({reply.reason}): does the data source analytics_events_test exist?"
        case Verdict.TOO_FAST:
            return "can be reached, but answers that it gets too many requests"
    return f"cannot be reached ({reply.reason}): are host, port and network right?"


def _test_event() -> bytes:
    """Make an event that every column of Ghost's data source accepts."""
    site_uuid, agent = "00000000-0000-4000-8000-000000000000", "traffic-analytics check"
    payload = Payload(
        site_uuid=site_uuid,
        member_uuid="undefined",
        member_status="undefined",
        post_uuid="undefined",
        post_type="null",
        locale="en-US",
        location=None,
        pathname="/traffic-analytics-check/",
        href="https://example.com/traffic-analytics-check/",
        user_agent=agent,
    )
    event = enrich(
        RawHit(Query(_TEST_DATA_SOURCE, None), site_uuid, agent, None, payload),
        agent=UserAgent(UNKNOWN, UNKNOWN, UNKNOWN),
        salt=uuid4().hex,
        address="",
        now=datetime.fromtimestamp(time.time(), UTC),  # noqa: TID251 - a command line is an edge
        new_event_id=lambda: str(uuid4()),
    )
    return msgspec.json.encode(event)


def _spool_commands(spool: Spool | None) -> AppGroup:
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
        out = sys.stdout.buffer
        for each in list_spooled(waiting=waiting):
            if each.data_source == data_source:
                out.write(each.event + b"\n")

    @group.command("purge")
    @click.confirmation_option(prompt="Delete all events that were set aside?")
    def purge() -> None:
        """Delete the events that were set aside."""
        click.echo(f"{require_spool().purge_dead_letters()} events deleted")

    return group


def _format(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
