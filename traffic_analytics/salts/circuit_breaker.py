"""A salt store across the network is waited for only while it answers: its absence costs hits a moment, not threads."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from traffic_analytics.errors import SaltUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from traffic_analytics.salts.store import SaltStore

_log = logging.getLogger(__name__)

DEADLINE = 1.0
"""Seconds that anybody waits for an answer."""
PAUSE = 1.0
"""Seconds for which a store that did not answer is left alone."""
LOOK_EVERY = 5.0
"""Seconds between the chore's looks for a store that is away."""

Said = TypeVar("Said")


class SaltCircuitBreaker:
    """Asks another store, and raises SaltUnavailable at once while that one does not answer.

    Each question has a thread of its own, since no timeout of a library covers all that may hang: looking up a name,
    fetching a token, one answer after the other. After a failure one question at a time finds out whether the store is
    back; all others fail without waiting. Of the store's errors only the sweep's are none of the guard's business.
    """

    def __init__(
        self, store: SaltStore, monotonic: Callable[[], float] = time.monotonic, *, deadline: float = DEADLINE
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._deadline = deadline
        self._lock = threading.Lock()
        self._answers = False
        self._away_since: float | None = None
        self._look_at = 0.0
        self._looking = False

    def prepare(self) -> None:
        """Prepare the store."""
        self._store.prepare()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        return self._ask(lambda: self._store.get_or_create(site_uuid, day))

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days; nobody waits for that, so it may take as long as the store lets it."""
        return self._store.forget_before(day)

    def check(self) -> None:
        """Find out whether the store can be used."""
        self._ask(self._store.check)

    def tick(self) -> float:
        """Look for the store at the start and while it is away, so that both its states are said without a hit."""
        if not self._answers:
            with contextlib.suppress(SaltUnavailable):
                self.check()
        return LOOK_EVERY

    def _ask(self, question: Callable[[], Said]) -> Said:
        looking = self._enter()
        answer: Future[Said] = Future()
        try:
            threading.Thread(target=_answer, args=[answer, question], name="salt-store", daemon=True).start()
            said = answer.result(self._deadline)
        except TimeoutError:
            late = SaltUnavailable(f"the salt store has not answered within {self._deadline:g} s")
            self._lost(late)
            raise late from None
        except SaltUnavailable as error:
            if error.store_answered:
                self._found()
            else:
                self._lost(error)
            raise
        finally:
            if looking:
                self._looking = False
        self._found()
        return said

    def _enter(self) -> bool:
        """Say whether this question finds out if the store is back. Raises SaltUnavailable if another one does."""
        with self._lock:
            if self._away_since is None:
                return False
            if self._looking or self._monotonic() < self._look_at:
                raise SaltUnavailable("the salt store is away; it is asked again in a moment")
            self._looking = True
            return True

    def _lost(self, error: SaltUnavailable) -> None:
        with self._lock:
            self._answers = False
            now = self._monotonic()
            begins = self._away_since is None
            if begins:
                self._away_since = now
            self._look_at = now + PAUSE
        if begins:
            _log.error(
                "hits of sites whose salt is not cached are answered 503: %s",
                error,
                extra={"event": "SaltStoreUnavailable"},
            )

    def _found(self) -> None:
        with self._lock:
            self._answers = True
            since, self._away_since = self._away_since, None
            now = self._monotonic()
        if since is not None:
            _log.info("the salt store is back after %.0f s", now - since, extra={"event": "SaltStoreAvailable"})


def _answer(answer: Future[Said], question: Callable[[], Said]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the thread that waits
        answer.set_exception(error)
