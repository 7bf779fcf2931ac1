"""Define the operator's command for share links: `traffic-analytics dashboard share SITE`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from traffic_analytics.dashboard.sessions import LONGEST_SHARE_DAYS
from traffic_analytics.runtime.uuids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.dashboard.sessions import Sessions

DEFAULT_SHARE_DAYS = 30


def dashboard_commands(sessions: Sessions | None, clock: Callable[[], float]) -> click.Group:
    """Return the commands."""
    group = click.Group("dashboard", help="Share the dashboard.")

    @group.command("share")
    @click.argument("site")
    @click.option("--days", type=click.IntRange(1, LONGEST_SHARE_DAYS), default=DEFAULT_SHARE_DAYS, show_default=True)
    @click.option("--url", default="/dashboard/", help="Address of the dashboard, to print the whole link.")
    def share(site: str, days: int, url: str) -> None:
        """Print a link that shows one SITE (its UUID) until it expires; a new DASHBOARD_KEY ends it earlier."""
        if sessions is None:
            raise click.ClickException("set DASHBOARD_KEY first: share links are signed with it")
        if not is_uuid(site):
            raise click.BadParameter("must be the UUID of a site", param_hint="SITE")
        until = clock() + days * 86_400
        click.echo(f"{url.rstrip('/')}/share/{sessions.sign_share(site, until)}/")
        click.echo(f"valid until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC", err=True)

    return group
