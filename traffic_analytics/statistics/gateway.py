"""A question about statistics crosses this file: who may see what, what is known already, and only then the target.

token ──▶ rights ──▶ kept and fresh? ──no──▶ asked by another thread or process? ──no──▶ paused? ──no──▶ target
                          │ yes                       │ yes: its answer                     │ yes         │
                          ▼                           ▼                                     ▼             ▼
                        answer                      answer                        last good answer, or the failure
"""

from __future__ import annotations

import json
import logging
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.statistics import query as questions
from traffic_analytics.statistics.access import extract_token
from traffic_analytics.statistics.answer_cache import Kept
from traffic_analytics.tinybird.pipes import CONNECT_TIMEOUT, READ_TIMEOUT, Reply
from traffic_analytics.wsgi import Answer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from traffic_analytics.runtime.single_flight import SingleFlight
    from traffic_analytics.statistics.access import Access
    from traffic_analytics.statistics.answer_cache import AnswerCache
    from traffic_analytics.statistics.query import Query

_log = logging.getLogger(__name__)

STALE_FOR = 3600.0
"""Seconds for which the last good answer stands in for a target that fails."""
PAUSE = 10.0
"""Seconds for which a question that failed is not asked again, unless the target names a time."""
LONGEST_PAUSE = 86_400.0
PATIENCE = CONNECT_TIMEOUT + READ_TIMEOUT + 1.0
"""Seconds that anybody waits for another's question to be answered: as long as that may take."""
LOOK_EVERY = 0.05
"""Seconds between looks at whether another process has its answer."""

STALE = "x-traffic-analytics-stale"
_HEADERS = (
    # Answers depend on the token: proxies and browsers are to keep none of them.
    ("cache-control", "private, no-store"),
    ("access-control-expose-headers", f"age, retry-after, {STALE}"),
)


class Asked(Protocol):
    """What is asked for what is not known yet."""

    def get(self, path: str, token: str) -> Reply:
        """Ask."""


class Statistics:
    """Takes a question from the request's words to the answer."""

    def __init__(
        self,
        pipes: Asked,
        cache: AnswerCache,
        flights: SingleFlight[Kept | Reply],
        *,
        access_of: Callable[[str, str, float], Access],
        slots: threading.Semaphore,
        fresh_for: float,
        realm: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Put the parts together.

        `slots` bounds the threads that wait for statistics, so that hits always have some; `realm` is whatever makes
        kept answers useless when it changes, such as the target.
        """
        self._pipes = pipes
        self._cache = cache
        self._flights = flights
        self._rights_of = access_of
        self._slots = slots
        self._fresh_for = fresh_for
        self._realm = realm
        self._clock = clock
        self._sleep = sleep

    def answer(self, file: str, query: str, authorization: str | None) -> Answer:
        """Answer the question after `/v0/pipes/`. Raises UnknownPipe, InvalidQuery and TokenRefused."""
        asked, token_in_query = questions.parse(file, query)
        token = extract_token(authorization, token_in_query)
        rights = self._rights_of(token, asked.pipe, self._clock())
        asked = asked.under(rights.fixed)
        key = self._key("answer", rights.readers, *asked)
        outcome = self._fresh(key) or self._wait_for(key, asked, token, rights)
        if isinstance(outcome, Reply) and outcome.is_passing and (kept := self._cache.get(key)):
            return self._stale(kept, asked, outcome)
        return self._fresh_answer(outcome) if isinstance(outcome, Kept) else _failure(outcome)

    def _wait_for(self, key: bytes, asked: Query, token: str, rights: Access) -> Kept | Reply:
        if not self._slots.acquire(blocking=False):
            return _no_reply(503, "too many questions at once", 1.0)
        try:
            while True:
                outcome, mine = self._flights.share(key, lambda: self._ask_once(key, asked, token, rights), PATIENCE)
                if mine or isinstance(outcome, Kept) or outcome.is_passing:
                    return outcome
                # Another's token was refused, or so it may be: ours has a right to an answer of its own.
        except TimeoutError:
            return _no_reply(504, "the statistics did not come in time", PAUSE)
        finally:
            self._slots.release()

    def _ask_once(self, key: bytes, asked: Query, token: str, rights: Access) -> Kept | Reply:
        """Ask, unless another process is doing so: then wait for its answer."""
        claim = self._key("claim", key.hex())
        if not self._fresh_for:
            return self._ask(key, asked, token, rights)
        for _ in range(int(PATIENCE / LOOK_EVERY)):
            if self._cache.claim(claim, PATIENCE):
                break
            self._sleep(LOOK_EVERY)
            if fresh := self._fresh(key):
                return fresh
        else:
            return _no_reply(504, "the statistics did not come in time", PAUSE)
        try:
            return self._fresh(key) or self._ask(key, asked, token, rights)
        finally:
            self._cache.forget(claim)

    def _ask(self, key: bytes, asked: Query, token: str, rights: Access) -> Kept | Reply:
        too_fast = self._key("pause", rights.payer)
        failed = self._key("pause", key.hex())
        for pause in (self._cache.get(too_fast), self._cache.get(failed)):
            if pause is not None:
                return Reply(pause.status, pause.body, "paused", pause.until - self._clock())
        reply = self._pipes.get(asked.path, token)
        now = self._clock()
        if reply.is_good:
            kept = Kept(now, now + STALE_FOR, reply.status, reply.body)
            if self._fresh_for:
                self._cache.put(key, kept)
            return kept
        if reply.is_passing:
            rest = PAUSE if reply.retry_after is None else min(reply.retry_after, LONGEST_PAUSE)
            pause_key = too_fast if reply.status == 429 else failed
            self._cache.put(pause_key, Kept(now, now + rest, reply.status, reply.body))
            _log.warning(
                "a question failed: %s",
                reply.reason,
                extra={"event": "StatisticsFailed", "pipe": asked.pipe, "seconds_until_next": round(rest)},
            )
            return reply._replace(retry_after=rest)
        if reply.status in (401, 403):
            # What the target no longer shows is not shown by us either.
            self._cache.forget(key)
        return reply

    def _fresh(self, key: bytes) -> Kept | None:
        since = self._clock() - self._fresh_for
        kept = self._cache.get(key, since)
        return kept if kept is not None and kept.made_at > since else None

    def _fresh_answer(self, kept: Kept) -> Answer:
        return Answer(200, kept.body, (("age", str(self._age(kept))), *_HEADERS))

    def _stale(self, kept: Kept, asked: Query, failure: Reply) -> Answer:
        age = str(self._age(kept))
        _log.info(
            "answered from the last good answer: %s",
            failure.reason,
            extra={"event": "StatisticsStale", "pipe": asked.pipe, "status": failure.status, "age": age},
        )
        return Answer(200, kept.body, (("age", age), (STALE, age), *_HEADERS))

    def _age(self, kept: Kept) -> int:
        return max(0, int(self._clock() - kept.made_at))

    def _key(self, kind: str, *what: object) -> bytes:
        return sha256(json.dumps([self._realm, kind, *what]).encode()).digest()


def _failure(reply: Reply) -> Answer:
    wait = () if reply.retry_after is None else (("retry-after", str(math.ceil(reply.retry_after))),)
    return Answer(reply.status, reply.body, (*wait, *_HEADERS))


def _no_reply(status: int, message: str, retry_after: float) -> Reply:
    return Reply(status, json.dumps({"error": message}).encode(), message, retry_after)
