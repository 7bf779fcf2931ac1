"""Store salts in Redis or Valkey, which expire by themselves soon after their day."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from redis import Redis, RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.circuit_breaker import DEADLINE
from traffic_analytics.salts.new_sites import admit_all
from traffic_analytics.salts.store import GRACE, new_salt, parse_salt, salt_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from traffic_analytics.salts.store import Scope

TIMEOUT = DEADLINE
"""Time for a connection, and for one response, in seconds; circuit_breaker.py bounds all of a hit together."""


def redis_client(url: str) -> Redis:
    """Describe a client; it opens connections when used, and own ones in each process."""
    return Redis.from_url(
        url,
        protocol=2,  # Redis 6 and Valkey support it, and a connection starts with fewer round trips
        socket_connect_timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


class RedisSalts:
    """Store each salt under `salt:YYYY-MM-DD:site_uuid`, for all machines that use the same Redis.

    A salt is written once (NX) and expires GRACE after the end of its day. A hit that was delayed for longer gets a new
    salt, from which no earlier session id can be derived. The new salt expires with those of the day on which it was
    created, as in other stores; if it expired sooner, the same visitor would get one session id after another.

    The expiry is fixed when the salt is created and no machine can extend it, so salts also expire if all machines are
    switched off. It is in seconds from now by the clock of the machine: Redis supports expiry by date only since 6.2.
    """

    scope: Scope = "network"
    chore = None

    def __init__(self, client: Redis, clock: Callable[[], datetime], admit: Callable[[str], None] = admit_all) -> None:
        self._client = client
        self._admit = admit
        self._clock = clock

    def prepare(self) -> None:
        """Do nothing: a machine may start before Redis, and its hits are refused until then."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; the first machine creates it."""
        key = salt_key(site_uuid, day)
        try:
            salt = self._client.get(key)
            if salt is None:
                self._admit(site_uuid)
                created = new_salt()
                if self._client.set(key, created, ex=self._seconds_left(day), nx=True):
                    return created
                salt = self._client.get(key)
        except RedisError as error:
            raise _unavailable(error) from error
        return parse_salt(_text(salt))

    def forget_before(self, day: date) -> int:  # noqa: ARG002
        """Do nothing: Redis deletes each salt when it expires."""
        return 0

    def check(self) -> None:
        """Check that Redis responds."""
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
    # The message may hold the URL with its password. A key of a wrong type does not mean that Redis is unavailable.
    wrong_type = type(error) is ResponseError and str(error).startswith("WRONGTYPE")
    return SaltUnavailable(f"Redis: {type(error).__name__}", store_answered=wrong_type)
