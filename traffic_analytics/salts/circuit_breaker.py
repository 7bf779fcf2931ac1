"""Wait for a salt store that is slow, and stop using one that is away, so that its absence blocks no threads."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.runtime.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import date

    from traffic_analytics.salts.store import SaltStore, Scope

_log = logging.getLogger(__name__)

DEADLINE = 4.0
"""Time that a hit waits for its salt, in seconds, over all requests to the store; browsers give up after 5."""
WAITING_HITS = 64
"""Number of hits of one process that wait for the store at a time; gunicorn.conf.py adds as many threads."""
PAUSE = 1.0
"""Time between two requests to a store that is away, in seconds."""
CHECK_EVERY = 5.0
"""Time between two checks in the background, in seconds."""

Result = TypeVar("Result")


class SaltCircuitBreaker:
    """Wrap a salt store, and raise SaltUnavailable at once while it is away.

    The store is away once a request fails or exceeds the deadline, unless it has responded to another one meanwhile.
    Then one request at a time tests whether the store is back, and all others fail at once. Errors of a sweep do not
    open the circuit.

    Hits that need the same salt share one request. It runs in a thread of its own, because no library's timeout covers
    everything that can hang: a DNS lookup, fetching a token, several round trips.
    """

    scope: Scope = "network"

    def __init__(
        self,
        store: SaltStore,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        deadline: float = DEADLINE,
        waiting_hits: int = WAITING_HITS,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._deadline = deadline
        self._places = threading.BoundedSemaphore(waiting_hits)
        self._flights: SingleFlight[Any] = SingleFlight()
        self._lock = threading.Lock()
        self._has_responded = False
        self._responses = 0
        self._away_since: float | None = None
        self._next_probe = 0.0
        self._is_probing = False

    def prepare(self) -> None:
        """Prepare the store."""
        self._store.prepare()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        return self._call((site_uuid, day), lambda: self._store.get_or_create(site_uuid, day))

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days, without a deadline: no hit waits for it."""
        return self._store.forget_before(day)

    def check(self) -> None:
        """Check that the store can be used."""
        self._call("check", self._store.check)

    @property
    def chore(self) -> Callable[[], float]:
        """Look for the store from time to time."""
        return self.tick

    def tick(self) -> float:
        """Check the store at the start and while it is unavailable, so that both states are logged without a hit."""
        if not self._has_responded:
            with contextlib.suppress(SaltUnavailable):
                self.check()
        return CHECK_EVERY

    def _call(self, key: Hashable, request: Callable[[], Result]) -> Result:
        if not self._places.acquire(blocking=False):
            raise SaltUnavailable("too many hits wait for the salt store")
        try:
            is_probe, responses = self._enter()
            try:
                result, _ = self._flights.share(key, lambda: self._run(request), self._deadline)
            except TimeoutError:
                late = SaltUnavailable(f"the salt store has not responded within {self._deadline:g} s")
                self._record_failure(late, responses)
                raise late from None
            except SaltUnavailable as error:
                if error.store_answered:
                    self._record_success()
                else:
                    self._record_failure(error, responses)
                raise
            finally:
                if is_probe:
                    self._is_probing = False
        finally:
            self._places.release()
        self._record_success()
        return result  # type: ignore[no-any-return] # each key has its own type

    def _run(self, request: Callable[[], Result]) -> Result:
        """Run a request in a thread of its own. Raises TimeoutError after the deadline."""
        future: Future[Result] = Future()
        threading.Thread(target=_settle, args=[future, request], name="salt-store", daemon=True).start()
        return future.result(self._deadline)

    def _enter(self) -> tuple[bool, int]:
        """Return whether this request tests if the store is back, and the number of responses up to now.

        Raises SaltUnavailable if the store is away and this request does not test it.
        """
        with self._lock:
            if self._away_since is None:
                return False, self._responses
            if self._is_probing or self._monotonic() < self._next_probe:
                raise SaltUnavailable("the salt store does not respond; it is tested again in a moment")
            self._is_probing = True
            return True, self._responses

    def _record_failure(self, error: SaltUnavailable, responses_before: int) -> None:
        with self._lock:
            if self._responses != responses_before:
                return
            self._has_responded = False
            now = self._monotonic()
            is_first = self._away_since is None
            if is_first:
                self._away_since = now
            self._next_probe = now + PAUSE
        if is_first:
            _log.error(
                "hits of sites whose salt is not cached are answered 503: %s",
                error,
                extra={"event": "SaltStoreUnavailable"},
            )

    def _record_success(self) -> None:
        with self._lock:
            self._has_responded = True
            self._responses += 1
            since, self._away_since = self._away_since, None
            now = self._monotonic()
        if since is not None:
            _log.info("the salt store is back after %.0f s", now - since, extra={"event": "SaltStoreAvailable"})


def _settle(future: Future[Result], request: Callable[[], Result]) -> None:
    try:
        future.set_result(request())
    except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
        future.set_exception(error)
