"""Hold the commands of an app, which include those that need no valid settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import Flask
from flask.cli import AppGroup

from traffic_analytics.runtime.serve_command import serve_command

if TYPE_CHECKING:
    from collections.abc import Callable

serve = serve_command(
    Path(__file__).parent / "gunicorn.conf.py",
    "Start the service, or a worker with WORKER_MODE=true; OPTIONS are passed to gunicorn.",
)


def _setup() -> click.Command:
    from traffic_analytics.setup.command import setup  # noqa: PLC0415

    return setup


WITHOUT_SETTINGS: dict[str, Callable[[], click.Command]] = {"serve": lambda: serve, "setup": _setup}
"""Commands that need no valid settings, each with the function that imports it when it is called."""


class AppCommands(AppGroup):
    """The commands of an app, beside those that need no valid settings.

    With `mistake`, the reason why the app cannot start, every other command reports it.
    """

    def __init__(self, mistake: str | None = None) -> None:
        super().__init__()
        self._mistake = mistake

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names that `--help` lists."""
        return sorted({*WITHOUT_SETTINGS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if it does not exist."""
        if cmd_name in WITHOUT_SETTINGS:
            return WITHOUT_SETTINGS[cmd_name]()
        if self._mistake is not None:
            elsewhere = f"\nThere is no .env in {Path.cwd()}. If it is elsewhere, run the command there."
            raise click.ClickException(self._mistake + ("" if Path(".env").exists() else elsewhere))
        return super().get_command(ctx, cmd_name)


def app_without_settings(mistake: str) -> Flask:
    """Return an app for the command line of a service that cannot start; exits where no command is run."""
    if click.get_current_context(silent=True) is None:
        sys.exit(mistake)
    app = Flask("traffic_analytics")
    app.cli = AppCommands(mistake)
    return app
