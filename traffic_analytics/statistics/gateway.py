"""Answer queries for statistics: check access, use the cache, and only then query the target.

token ──▶ access ──▶ cached and fresh? ──no──▶ running in a thread or process? ──no──▶ paused? ──no──▶ target
                          │ yes                       │ yes: its response                  │ yes         │
                          ▼                           ▼                                    ▼             ▼
                       response                    response                    last good response, or the failure

A query that is not cached needs a slot. A token that the target refused a moment ago is refused before that.
"""

from __future__ import annotations

import json
import logging
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.errors import TokenRefused
from traffic_analytics.statistics.answer_cache import Entry
from traffic_analytics.statistics.query import parse_query
from traffic_analytics.tinybird.jwt import check_form, extract_token
from traffic_analytics.tinybird.pipes import CONNECT_TIMEOUT, READ_TIMEOUT, Reply
from traffic_analytics.wsgi import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.runtime.single_flight import SingleFlight
    from traffic_analytics.statistics.access import Access
    from traffic_analytics.statistics.answer_cache import AnswerCache
    from traffic_analytics.statistics.query import Query
    from traffic_analytics.statistics.slots import Slots

_log = logging.getLogger(__name__)

STALE_FOR = 3600.0
"""Time for which the last good response replaces a failure, in seconds."""
PAUSE = 10.0
"""Time for which a failed query is not repeated unless the target names one, in seconds.

A token that the target refused for a pipe is refused here for as long.
"""
LONGEST_PAUSE = 86_400.0
"""Longest pause that a target may name, in seconds."""
WAIT_TIMEOUT = CONNECT_TIMEOUT + READ_TIMEOUT + 1.0
"""Time for which a thread waits for a response that another thread or process fetches, in seconds."""
POLL_INTERVAL = 0.05
"""Interval of checks for a response that another process fetches, in seconds."""

STALE = "x-traffic-analytics-stale"
_HEADERS = (
    # Responses depend on the token: no proxy and no browser may cache them.
    ("cache-control", "private, no-store"),
    ("access-control-expose-headers", f"age, retry-after, {STALE}"),
)


class PipesApi(Protocol):
    """Source of the statistics that are not cached."""

    def get(self, path: str, token: str) -> Reply:
        """Send a query."""


class Gateway:
    """Answer queries from the cache and the target."""

    def __init__(
        self,
        pipes: PipesApi,
        cache: AnswerCache,
        flights: SingleFlight[Entry | Reply],
        *,
        refusals: AnswerCache,
        access_of: Callable[[str, str, float], Access],
        slots: Slots,
        fresh_for: float,
        realm: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Store the parts.

        `refusals` is in memory only; in the file of `cache`, refusals of invented tokens would displace responses.
        `realm` is part of each cache key: the target, whose change makes cached responses useless.
        """
        self._pipes = pipes
        self._cache = cache
        self._flights = flights
        self._refusals = refusals
        self._access_of = access_of
        self._slots = slots
        self._fresh_for = fresh_for
        self._realm = realm
        self._clock = clock
        self._sleep = sleep

    def answer(self, file: str, query_string: str, authorization: str | None) -> Answer:
        """Answer the query after `/v0/pipes/`. Raises UnknownPipe, InvalidQuery and TokenRefused."""
        query, token_in_query = parse_query(file, query_string)
        token = extract_token(authorization, token_in_query)
        if token is None:
            raise TokenRefused("a token is needed")
        check_form(token)
        access = self._access_of(token, query.pipe, self._clock())
        query = query.restrict(access.fixed)
        key = self._key("answer", access.readers, *query)
        outcome = self._read_fresh(key) or self._fetch_shared(key, query, token, access)
        if isinstance(outcome, Reply) and outcome.is_transient and (entry := self._cache.get(key)):
            return self._stale_answer(entry, query, outcome)
        return self._fresh_answer(outcome) if isinstance(outcome, Entry) else _failure_answer(outcome)

    def _fetch_shared(self, key: bytes, query: Query, token: str, access: Access) -> Entry | Reply:
        """Fetch a response once for all threads that need it at the same time."""
        if refusal := self._read_refusal(query, token):
            return refusal
        if not self._slots.acquire(is_verified=access.is_verified):
            return _failure(503, "too many queries at once", 1.0)
        outcome: Entry | Reply | None = None
        try:
            while True:
                outcome, is_own = self._flights.share(
                    key, lambda: self._fetch_claimed(key, query, token, access), WAIT_TIMEOUT
                )
                if is_own or isinstance(outcome, Entry) or outcome.is_transient:
                    return outcome
                # The target refused another client's token; this client's own may be valid.
        except TimeoutError:
            return _failure(504, "the statistics did not come in time", PAUSE)
        finally:
            self._slots.release(is_verified=access.is_verified, has_failed=not isinstance(outcome, Entry))

    def _fetch_claimed(self, key: bytes, query: Query, token: str, access: Access) -> Entry | Reply:
        """Fetch a response unless another process is fetching it; then wait for that one."""
        claim = self._key("claim", key.hex())
        if not self._fresh_for:
            return self._fetch(key, query, token, access)
        for _ in range(int(WAIT_TIMEOUT / POLL_INTERVAL)):
            if self._cache.claim(claim, WAIT_TIMEOUT):
                break
            self._sleep(POLL_INTERVAL)
            if entry := self._read_fresh(key):
                return entry
        else:
            return _failure(504, "the statistics did not come in time", PAUSE)
        try:
            return self._read_fresh(key) or self._fetch(key, query, token, access)
        finally:
            self._cache.remove(claim)

    def _fetch(self, key: bytes, query: Query, token: str, access: Access) -> Entry | Reply:
        if refusal := self._read_refusal(query, token):
            return refusal
        payer_pause = self._key("pause", access.payer)
        query_pause = self._key("pause", key.hex())
        for pause in (self._cache.get(payer_pause), self._cache.get(query_pause)):
            if pause is not None:
                return Reply(pause.status, pause.body, "paused", pause.until - self._clock())
        reply = self._pipes.get(query.path, token)
        now = self._clock()
        if reply.is_good:
            entry = Entry(now, now + STALE_FOR, reply.status, reply.body)
            if self._fresh_for:
                self._cache.put(key, entry)
            return entry
        if reply.is_transient:
            seconds = PAUSE if reply.retry_after is None else min(reply.retry_after, LONGEST_PAUSE)
            pause_key = payer_pause if reply.status == 429 else query_pause
            self._cache.put(pause_key, Entry(now, now + seconds, reply.status, reply.body))
            _log.warning(
                "a query failed: %s",
                reply.reason,
                extra={"event": "StatisticsFailed", "pipe": query.pipe, "seconds_until_next": round(seconds)},
            )
            return reply._replace(retry_after=seconds)
        if reply.status in (401, 403):
            # A response that the target no longer gives to this client is not given from the cache either.
            self._cache.remove(key)
            self._refusals.put(self._refusal_key(query, token), Entry(now, now + PAUSE, reply.status, reply.body))
        return reply

    def _read_refusal(self, query: Query, token: str) -> Reply | None:
        entry = self._refusals.get(self._refusal_key(query, token))
        return None if entry is None else Reply(entry.status, entry.body, "refused before")

    def _refusal_key(self, query: Query, token: str) -> bytes:
        return self._key("refusal", query.pipe, token)

    def _read_fresh(self, key: bytes) -> Entry | None:
        since = self._clock() - self._fresh_for
        entry = self._cache.get(key, since)
        return entry if entry is not None and entry.made_at > since else None

    def _fresh_answer(self, entry: Entry) -> Answer:
        return Answer(200, entry.body, (("age", str(self._age(entry))), *_HEADERS))

    def _stale_answer(self, entry: Entry, query: Query, failure: Reply) -> Answer:
        age = str(self._age(entry))
        _log.info(
            "answered with the last good response: %s",
            failure.reason,
            extra={"event": "StatisticsStale", "pipe": query.pipe, "status": failure.status, "age": age},
        )
        return Answer(200, entry.body, (("age", age), (STALE, age), *_HEADERS))

    def _age(self, entry: Entry) -> int:
        return max(0, int(self._clock() - entry.made_at))

    def _key(self, kind: str, *parts: object) -> bytes:
        return sha256(json.dumps([self._realm, kind, *parts]).encode()).digest()


def _failure_answer(reply: Reply) -> Answer:
    wait = () if reply.retry_after is None else (("retry-after", str(math.ceil(reply.retry_after))),)
    return Answer(reply.status, reply.body, (*wait, *_HEADERS))


def _failure(status: int, message: str, retry_after: float) -> Reply:
    return Reply(status, json.dumps({"error": message}).encode(), message, retry_after)
