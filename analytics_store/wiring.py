"""The one place where the store's parts meet; a test passes others."""

import logging.config
import time
from collections.abc import Callable

from flask import Flask

from analytics_store import admin, cli, logs, web
from analytics_store.database import Database
from analytics_store.hits import Hits
from analytics_store.settings import Settings
from analytics_store.store import Store
from analytics_store.tokens import Tokens


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the wiring knows the clock
) -> Flask:
    """Build the store's app. It opens its file at the first request, or when gunicorn's worker is ready."""
    logging.config.dictConfig(logs.configuration(settings.log_level, settings.log_format))
    database = Database(settings)
    store = Store(settings, database, Hits(database, clock), Tokens(settings), clock)
    app = Flask("analytics_store.wiring", static_folder=None)
    # What crashes is logged by web.py, under a stable event name and without a path.
    app.logger.disabled = True
    app.config["MAX_CONTENT_LENGTH"] = web.MOST_BYTES
    app.extensions["store"] = store
    app.register_blueprint(web.blueprint)
    app.register_blueprint(admin.blueprint)
    app.cli.add_command(cli.store)
    return app
