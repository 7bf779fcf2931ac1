from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from redis import AuthenticationError, Redis, ResponseError

from tests.support.app import SITE
from tests.support.salts import TODAY, refuse_new_site
from traffic_analytics.errors import SaltUnavailable, TooManyNewSites
from traffic_analytics.salts.circuit_breaker import SaltCircuitBreaker
from traffic_analytics.salts.redis import RedisSalts
from traffic_analytics.salts.store import GRACE

KEY = f"salt:2026-11-22:{SITE}"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class FakeRedis:
    """Return or raise the next of `answers` at each call."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.written: list[Any] = []

    def get(self, key: str) -> Any:
        assert key == KEY
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def set(self, key: str, salt: str, *, ex: int, nx: bool) -> Any:
        assert (key, nx) == (KEY, True)
        self.written.append((salt, ex))
        return self._answers.pop(0)


def salts(redis: Any, now: datetime = NOON) -> RedisSalts:
    return RedisSalts(redis, lambda: now)


def test_the_first_machine_creates_the_salt() -> None:
    redis = FakeRedis(None, True)

    salt = salts(redis).get_or_create(SITE, TODAY)

    assert [salt for salt, _ in redis.written] == [salt]
    assert len(bytes.fromhex(salt)) == 32


def test_a_later_machine_uses_the_salt_of_the_first() -> None:
    assert salts(FakeRedis(b"theirs")).get_or_create(SITE, TODAY) == "theirs"
    assert salts(FakeRedis(None, None, b"theirs")).get_or_create(SITE, TODAY) == "theirs"


def test_only_a_new_salt_needs_room_for_new_sites() -> None:
    redis = FakeRedis(b"theirs", None)
    store = SaltCircuitBreaker(RedisSalts(cast("Redis", redis), lambda: NOON, refuse_new_site))

    assert store.get_or_create(SITE, TODAY) == "theirs"
    with pytest.raises(TooManyNewSites):
        store.get_or_create(SITE, TODAY)
    assert redis.written == []
    with pytest.raises(IndexError):  # the fake has no answer left: it was asked again, so the circuit is closed
        store.get_or_create(SITE, TODAY)


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2026, 11, 22, tzinfo=UTC), 86_400 + GRACE.total_seconds()),
        (datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC), 1 + GRACE.total_seconds()),
        (datetime(2026, 11, 23, tzinfo=UTC) + GRACE / 2, GRACE.total_seconds() / 2),
        (datetime(2026, 11, 23, tzinfo=UTC) + GRACE - timedelta(microseconds=1), 1),
    ],
)
def test_a_salt_expires_a_moment_after_its_day(now: datetime, seconds: float) -> None:
    redis = FakeRedis(None, True)

    salts(redis, now).get_or_create(SITE, TODAY)

    assert redis.written[0][1] == seconds


@pytest.mark.parametrize("days", [1, 6])
def test_a_salt_created_later_expires_with_the_day_of_its_creation(days: int) -> None:
    midnight, redis = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(days), FakeRedis(None, True, None, True)

    salts(redis, midnight + GRACE).get_or_create(SITE, TODAY)
    salts(redis, midnight + timedelta(hours=20)).get_or_create(SITE, TODAY)

    assert [seconds for _, seconds in redis.written] == [86_400, 4 * 3600 + GRACE.total_seconds()]


@pytest.mark.parametrize(
    "answers", [[b""], [b"\xff\xfe"], [7], [None, None, None], [ResponseError("WRONGTYPE of key")]]
)
def test_a_stored_value_that_is_no_salt_is_refused(answers: list[Any]) -> None:
    with pytest.raises(SaltUnavailable) as refused:
        salts(FakeRedis(*answers)).get_or_create(SITE, TODAY)

    assert refused.value.store_answered


def test_an_error_is_reported_by_its_class() -> None:
    with pytest.raises(SaltUnavailable) as refused:
        salts(FakeRedis(AuthenticationError("redis://user:password@host"))).get_or_create(SITE, TODAY)

    assert (str(refused.value), refused.value.store_answered) == ("Redis: AuthenticationError", False)
