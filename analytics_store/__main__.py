"""Offer the store's commands as `analytics-store`, or `python -m analytics_store`, from any directory."""

import os
import sys
from pathlib import Path

import click
from flask import Flask
from flask.cli import ScriptInfo

_CONFIGURATION = Path(__file__).parent / "gunicorn.conf.py"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def serve(options: tuple[str, ...]) -> None:
    """Start the store; OPTIONS are passed to gunicorn."""
    # gunicorn replaces this process, so that a supervisor's signals reach it.
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", str(_CONFIGURATION), *options])  # noqa: S606


def _load_app() -> Flask:
    from analytics_store.app import app  # noqa: PLC0415 - importing it builds it

    return app


def main() -> None:
    """Run a command; the environment and `.env` in the working directory configure it."""
    try:
        from analytics_store.cli import store  # noqa: PLC0415 - its packages are optional
    except ModuleNotFoundError as error:
        sys.exit(f"The store needs the package {error.name}: pip install 'traffic-analytics[store]'")
    store.add_command(serve)
    store(obj=ScriptInfo(create_app=_load_app), prog_name="analytics-store")


if __name__ == "__main__":
    main()
