"""Build the store's app from its settings."""

import logging.config
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Flask

from analytics_store import admin, bodies, cli, maintenance, web
from analytics_store.disk import DiskLimit
from analytics_store.duckdb_engine.engine import DuckDbEngine
from analytics_store.hits import Hits
from analytics_store.journal import Journal
from analytics_store.settings import Settings
from analytics_store.store import Store
from analytics_store.tokens import Tokens
from analytics_store.versions import Versions
from traffic_analytics.runtime import logs
from traffic_analytics.runtime.background import Background
from traffic_analytics.runtime.paths import merge_slashes


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the wiring knows the clock
) -> Flask:
    """Build the store's app. It opens its file at the first request, or when gunicorn's worker is ready."""
    logging.config.dictConfig(log_configuration(settings))
    engine, journal = DuckDbEngine(settings), Journal(settings.data_dir)
    hits = Hits(engine, journal, clock, DiskLimit(settings, engine, journal))
    store = Store(settings, engine, hits, Tokens(settings), clock)
    app = Flask("analytics_store.wiring", static_folder=None)
    # web.py logs defects under a stable event name, without the path and its token.
    app.logger.disabled = True
    app.config["MAX_CONTENT_LENGTH"] = bodies.BODY_LIMIT
    app.extensions["store"] = store
    app.extensions["background"] = make_background(store)
    app.register_blueprint(web.blueprint)
    app.register_blueprint(admin.blueprint)
    app.cli.add_command(cli.store)
    app.wsgi_app = merge_slashes(app.wsgi_app)  # type: ignore[method-assign]
    return app


def make_background(store: Store) -> Background:
    """Return the store's chores, not yet started; retention is one only if it is set."""
    background = Background()
    background.add("apply", store.hits.apply_waiting)
    background.add("settle", partial(maintenance.settle, store))
    background.add("sort", partial(maintenance.sort, store), on_stop=store.engine.stop_sorting)
    background.add("collapse", Versions(store).collapse_if_grown)
    if store.settings.retention_days is not None or store.settings.site_retention_days:
        background.add("retention", partial(maintenance.apply_retention, store))
    return background


def log_configuration(settings: Settings) -> dict[str, Any]:
    """Return the logging.config dictionary that store and service share, with the store's logger."""
    dictionary = logs.configuration(settings.log_level, settings.log_format, None)
    dictionary["loggers"]["analytics_store"] = dictionary["loggers"]["traffic_analytics"]
    return dictionary
