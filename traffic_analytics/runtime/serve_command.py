"""Make the command `serve`, which both packages have."""

import os
import sys
from pathlib import Path

import click


def serve_command(configuration: Path, meaning: str) -> click.Command:
    """Return a command that starts gunicorn with a configuration; `meaning` is its help text."""

    @click.command("serve", help=meaning, context_settings={"ignore_unknown_options": True})
    @click.argument("options", nargs=-1, type=click.UNPROCESSED)
    def serve(options: tuple[str, ...]) -> None:
        # gunicorn replaces this process, so that a supervisor's signals reach it.
        os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", str(configuration), *options])  # noqa: S606

    return serve
