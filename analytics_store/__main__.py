"""Offer the store's commands as `analytics-store`, or `python -m analytics_store`, from any directory."""

import sys
from pathlib import Path

from flask import Flask
from flask.cli import ScriptInfo

from traffic_analytics.runtime.serve_command import serve_command

serve = serve_command(Path(__file__).parent / "gunicorn.conf.py", "Start the store; OPTIONS are passed to gunicorn.")


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
