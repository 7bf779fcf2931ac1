"""What operators type: `flask --app app check` and `flask --app app spool …`."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import click
from flask.cli import AppGroup

from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SaltUnavailable, SpoolUnavailable
from traffic_analytics.tinybird.events import Tinybird, events_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flask import Flask

    from traffic_analytics.delivery.spool import Spool, StoredEvent
    from traffic_analytics.delivery.target import Target
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.settings import Settings


def register(
    app: Flask,
    settings: Settings,
    salts: Salts,
    spool: Spool | None,
    target: Target,
    **more: Callable[[], str | None],
) -> None:
    """Add the commands to the app; `more` are other parts to try, each of which returns what is wrong with it."""

    @app.cli.command("check")
    def check() -> None:
        """Try the whole configuration; exits with 1 if something is wrong."""
        problems = 0
        for name, problem in _findings(settings, salts, spool, target, more):
            click.echo(f"{'FAIL' if problem else 'ok':<5} {name}" + (f": {problem}" if problem else ""))
            problems += problem is not None
        sys.exit(1 if problems else 0)

    app.cli.add_command(_spool_commands(spool))


def _findings(
    settings: Settings,
    salts: Salts,
    spool: Spool | None,
    target: Target,
    more: Mapping[str, Callable[[], str | None]],
) -> Iterator[tuple[str, str | None]]:
    """Try each part; yields its name and what is wrong with it."""
    yield "settings", None  # or we would not be here
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
    for name, try_it in more.items():
        yield name, try_it()
    if not isinstance(target, Tinybird):
        yield f"{target.NAME} topic", _explain_topic(target.post("analytics_events_test", _test_event()))
        return
    where = f"Tinybird at {events_url(settings.proxy_target)}"
    if settings.tinybird_tracker_token is None:
        yield where, "TINYBIRD_TRACKER_TOKEN is not set: it can only be tried with a token; failed hits cannot be kept"
        return
    yield where, _explain(target.post("analytics_events_test", _test_event(), wait=True))


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
    """Say in plain words what Tinybird's answer to the test event means for the operator."""
    match reply.verdict:
        case Verdict.TAKEN if reply.quarantined:
            return "takes events, but could not fit one into analytics_events_test: the data source is not Ghost's"
        case Verdict.TAKEN:
            return None
        case Verdict.WRONG_SETUP if reply.status in (401, 403):
            return f"refuses the token ({reply.reason}): it must be allowed to append to analytics_events_test"
        case Verdict.WRONG_SETUP:
            return f"is not there ({reply.reason}): is PROXY_TARGET the right region and path?"
        case Verdict.REFUSED:
            return f"refuses the event ({reply.reason}): does the data source analytics_events_test exist?"
        case Verdict.TOO_FAST:
            return "is there, but says that it gets too many requests"
    return f"cannot be reached ({reply.reason}): are host, port and network right?"


def _test_event() -> bytes:
    """Make an event that every column of Ghost's data source accepts."""
    site = "00000000-0000-4000-8000-000000000000"
    now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - a command line is an edge
    payload = {
        "event_id": str(uuid4()),
        "site_uuid": site,
        "member_uuid": "undefined",
        "member_status": "undefined",
        "post_uuid": "undefined",
        "post_type": "null",
        "locale": "en-US",
        "location": None,
        "pathname": "/traffic-analytics-check/",
        "href": "https://example.com/traffic-analytics-check/",
        "os": "unknown",
        "browser": "unknown",
        "device": "unknown",
        "user-agent": "traffic-analytics check",
        "meta": {"received_timestamp": None},
    }
    event = {
        "timestamp": now.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "action": "page_hit",
        "version": "1",
        "site_uuid": site,
        "session_id": uuid4().hex * 2,
        "payload": payload,
    }
    return json.dumps(event).encode()


def _spool_commands(spool: Spool | None) -> AppGroup:
    group = AppGroup("spool", help="What waits for Tinybird, and what was set aside.")

    def the_spool() -> Spool:
        if spool is None:
            raise click.ClickException("there is no spool without TINYBIRD_TRACKER_TOKEN")
        return spool

    def chosen(*, waiting: bool) -> Iterator[StoredEvent]:
        return the_spool().list_waiting() if waiting else the_spool().list_dead_letters()

    @group.command("status")
    def status() -> None:
        """Show how many events wait, since when, and how many were set aside."""
        backlog = the_spool().backlog()
        click.echo(f"waiting    {backlog.waiting}")
        if backlog.oldest is not None:
            age = time.time() - backlog.oldest  # noqa: TID251
            click.echo(f"oldest     {_moment(backlog.oldest)} ({age:.0f} s ago)")
        click.echo(f"set aside  {backlog.dead_letters}")
        click.echo(f"size       {backlog.bytes_used / 1e6:.1f} MB")

    @group.command("list")
    @click.option("--waiting", is_flag=True, help="What waits, instead of what was set aside.")
    def list_events(waiting: bool) -> None:
        """List events: number, arrival, data source, size, and why they were set aside."""
        for each in chosen(waiting=waiting):
            click.echo(f"{each.id}  {_moment(each.received)}  {each.data_source}  {len(each.event)} B  {each.reason}")

    @group.command("retry")
    @click.argument("ids", nargs=-1, type=int)
    @click.option("--all", "everything", is_flag=True, help="Everything that was set aside.")
    def retry(ids: tuple[int, ...], everything: bool) -> None:
        """Send events again that were set aside: those with the given numbers, or --all."""
        if bool(ids) == everything:
            raise click.UsageError("name events by their numbers, or say --all")
        click.echo(f"{the_spool().requeue(None if everything else ids)} events wait again")

    @group.command("export")
    @click.option("--waiting", is_flag=True, help="What waits, instead of what was set aside.")
    @click.option("--data-source", default="analytics_events", show_default=True)
    def export(waiting: bool, data_source: str) -> None:
        """Write events as NDJSON, ready to be posted to Tinybird; they stay in the spool."""
        out = sys.stdout.buffer
        for each in chosen(waiting=waiting):
            if each.data_source == data_source:
                out.write(each.event + b"\n")

    @group.command("purge")
    @click.confirmation_option(prompt="Delete for good what was set aside?")
    def purge() -> None:
        """Delete what was set aside."""
        click.echo(f"{the_spool().purge_dead_letters()} events deleted")

    return group


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
