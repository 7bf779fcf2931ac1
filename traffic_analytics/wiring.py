"""The one place where the parts meet."""

from __future__ import annotations

import logging
import logging.config
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from cachetools import LRUCache, cached
from flask import Flask

from traffic_analytics import logs, referrer, user_agent, web
from traffic_analytics.delivery import DirectDelivery
from traffic_analytics.file_lock import FileLock
from traffic_analytics.salts import MemorySalts, Salts, SaltStore, SqliteSalts, Sweeper
from traffic_analytics.tinybird import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.settings import Settings

CACHED_USER_AGENTS = 4096


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] | None = None,
    salt_store: SaltStore | None = None,
) -> Flask:
    """Build the service from its settings; whatever else is given takes the place of a part.

    Opens the salt store to check it (raises DamagedFile) and starts no thread: `start_background` does, in the process
    that is to run it.
    """
    logging.config.dictConfig(
        logs.configuration(settings.log_level, settings.log_format, settings.google_cloud_project)
    )
    store = salt_store or make_salt_store(settings)
    store.prepare()
    clock = clock or now_utc
    salts = Salts(store)
    tinybird = Tinybird(
        settings.proxy_target,
        settings.tinybird_tracker_token,
        wait=settings.tinybird_wait,
        connections=settings.threads,
    )
    parts = web.Parts(
        settings=settings,
        clock=clock,
        salts=salts,
        delivery=DirectDelivery(tinybird),
        parse_user_agent=cached(LRUCache(CACHED_USER_AGENTS), lock=threading.Lock())(user_agent.parse),
        is_bot=cached(LRUCache(CACHED_USER_AGENTS), lock=threading.Lock())(user_agent.is_bot),
        new_event_id=lambda: str(uuid4()),
    )
    app = Flask("traffic_analytics", static_folder=None)
    # A path is a route or it is not: a redirect would cost a hit its answer.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    routes = web.blueprint(parts)
    app.register_blueprint(routes)
    app.register_blueprint(routes, name="below_ghost", url_prefix=web.PREFIX)
    if settings.local_proxy:
        app.register_blueprint(web.local_proxy())
    web.handle_errors(app)
    lock = FileLock(settings.salt_file.with_name("salts.sweep.lock")) if isinstance(store, SqliteSalts) else None
    app.extensions["traffic_analytics"] = Background(
        [Sweeper(salts, clock, lock).tick] if settings.enable_salt_cleanup_scheduler else []
    )
    # The first hit should not pay for reading the lists.
    user_agent.parse("")
    referrer.classify("https://example.com/", None, None, "")
    return app


def make_salt_store(settings: Settings) -> SaltStore:
    """Choose the salt store."""
    if settings.salt_store_type == "memory":
        return MemorySalts()
    return SqliteSalts(settings.salt_file)


def now_utc() -> datetime:
    """Say what time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock


class Background:
    """What a process does beside answering: each chore is called every few seconds in a thread of its own."""

    PERIOD = 20.0

    def __init__(self, chores: list[Callable[[], None]]) -> None:
        self._chores = chores
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; call it in the process that is to run them, after any fork."""
        self._threads = [threading.Thread(target=self._run, args=[chore], daemon=True) for chore in self._chores]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Ask the threads to end and wait for them, at most `timeout` seconds each."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)

    def _run(self, chore: Callable[[], None]) -> None:
        while True:
            try:
                chore()
            except Exception as error:
                logging.getLogger(__name__).error("a chore failed", exc_info=error, extra={"event": "ChoreFailed"})
            if self._stopping.wait(self.PERIOD):
                return
