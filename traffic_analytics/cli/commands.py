"""Add the operator's commands to an app."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import click

from traffic_analytics.cli.blog import check_blog
from traffic_analytics.cli.installation import Installation, check_installation, check_service
from traffic_analytics.cli.spool import spool_commands
from traffic_analytics.cli.steps import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.delivery.target import Target
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.settings import Settings

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def register(
    app: Flask,
    settings: Settings,
    salts: Salts,
    spool: Spool | None,
    target: Target,
    **more: Callable[[], str | None],
) -> None:
    """Add the commands to the app; `more` are further checks by name, each returning advice or None."""
    installation = Installation(settings, salts, spool, target, more)

    @app.cli.command("check")
    @_as_json
    def check(as_json: bool) -> None:
        """Try the settings and all that the service needs; it need not run. Exit with 1 if a step fails."""
        report(check_installation(installation), as_json=as_json)

    @app.cli.command("doctor")
    @click.argument("url", required=False)
    @click.option("--stats", help="Ghost's tinybird__stats__endpoint, if it is not beside the tracker's.")
    @_as_json
    def doctor(url: str | None, stats: str | None, as_json: bool) -> None:
        """Try what `check` tries and the running service; with the blog's URL also the way of a reader's hit.

        The hit that it sends is of a site of its own, so that it counts in no blog's statistics.
        """
        steps = chain(check_installation(installation), check_service(settings))
        report(chain(steps, check_blog(settings, url, stats) if url else ()), as_json=as_json)

    app.cli.add_command(spool_commands(spool))
