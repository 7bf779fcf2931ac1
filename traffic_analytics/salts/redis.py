"""In Redis a salt carries its own end: it is gone soon after its day, whoever is alive to sweep."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from redis import Redis, RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.store import GRACE, new_salt, parse_salt, salt_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

TIMEOUT = 1.0
"""Seconds for a connection, and for each answer; salt_guard.py sees to it that nobody waits for several of them."""


def redis_client(url: str) -> Redis:
    """Describe a Redis or Valkey; nothing is opened yet, and after a fork each process opens connections of its own."""
    return Redis.from_url(
        url,
        protocol=2,  # Redis 6 and Valkey speak it, and a connection begins with fewer questions
        socket_connect_timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


class RedisSalts:
    """Salts of all machines that use the same Redis, under `salt:YYYY-MM-DD:site_uuid`.

    Each is written once (NX) and expires when its day has been over for GRACE: until then a hit that arrived before
    midnight may need it, and afterwards only one that has waited elsewhere. Such a hit gets a new salt, which traces no
    name that the first one made. It expires with those of the day on which it is made, as the sweep has it for other
    stores: any sooner, and machines and restarts would each name the same visitor anew.

    The end is fixed when the salt is made and no machine can put it off, so the promise holds also if all of them are
    switched off. It is told in seconds from now by the clock of the machine that asks: Redis knows ends by date only
    since 6.2.
    """

    def __init__(self, client: Redis, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock

    def prepare(self) -> None:
        """Need nothing: machines start at different times, and hits are told if Redis is away."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day, made by whichever machine came first."""
        key = salt_key(site_uuid, day)
        try:
            salt = self._client.get(key)
            if salt is None:
                mine = new_salt()
                if self._client.set(key, mine, ex=self._seconds_left(day), nx=True):
                    return mine
                salt = self._client.get(key)
        except RedisError as error:
            raise _unavailable(error) from error
        return parse_salt(_text(salt))

    def forget_before(self, day: date) -> int:  # noqa: ARG002
        """Delete nothing: Redis does, each salt at its end."""
        return 0

    def check(self) -> None:
        """Find out whether Redis answers."""
        try:
            self._client.ping()
        except RedisError as error:
            raise _unavailable(error) from error

    def _seconds_left(self, day: date) -> int:
        now = self._clock().astimezone(UTC)
        last_day = max(day, (now - GRACE).date())
        end = datetime.combine(last_day + timedelta(days=1), time(), UTC) + GRACE
        return math.ceil((end - now).total_seconds())


def _text(stored: object) -> str | None:
    try:
        return stored.decode() if isinstance(stored, bytes) else None
    except UnicodeDecodeError:
        return None


def _unavailable(error: RedisError) -> SaltUnavailable:
    # The message may hold the URL and so the password; the type of a key says nothing of the rest of Redis.
    wrong_type = type(error) is ResponseError and str(error).startswith("WRONGTYPE")
    return SaltUnavailable(f"Redis: {type(error).__name__}", store_answered=wrong_type)
