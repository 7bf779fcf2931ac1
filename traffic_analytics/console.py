"""Offer all commands as `traffic-analytics`, or `python -m traffic_analytics`, from any directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask.cli import ScriptInfo

from traffic_analytics.app_commands import WITHOUT_SETTINGS

if TYPE_CHECKING:
    from flask import Flask


class Console(click.Group):
    """The commands of the app, which is built only where one of them is called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names that `--help` lists."""
        return ctx.ensure_object(ScriptInfo).load_app().cli.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if it does not exist."""
        if cmd_name in WITHOUT_SETTINGS:
            return WITHOUT_SETTINGS[cmd_name]()
        return ctx.ensure_object(ScriptInfo).load_app().cli.get_command(ctx, cmd_name)


def _load_app() -> Flask:
    from app import app  # noqa: PLC0415 - importing it builds it

    return app


def main() -> None:
    """Run a command; the environment and `.env` in the working directory configure it."""
    console = Console("traffic-analytics", help="Count the readers of Ghost blogs.")
    console(obj=ScriptInfo(create_app=_load_app), prog_name="traffic-analytics")
