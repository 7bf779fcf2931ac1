from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    DeadlineExceeded,
    GoogleAPIError,
    PermissionDenied,
    ServiceUnavailable,
)
from google.auth.exceptions import DefaultCredentialsError

from tests.support.app import SITE
from tests.support.fresh_processes import result_of
from tests.support.processes import wait_until
from tests.support.salts import TODAY, refuse_new_site
from traffic_analytics.errors import SaltUnavailable, TooManyNewSites
from traffic_analytics.salts.circuit_breaker import SaltCircuitBreaker
from traffic_analytics.salts.firestore import SILENCE, TIMEOUT, FirestoreSalts

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MISSING = object()


class FakeFirestore:
    """Stand in for client, collection, document and snapshot; each read returns or raises the next of `answers`."""

    def __init__(self, *answers: Any, taken: bool = False) -> None:
        self._answers = list(answers)
        self._taken = taken
        self.path: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.closed = False

    def collection(self, name: str) -> FakeFirestore:
        self.path = [name]
        return self

    def document(self, name: str) -> FakeFirestore:
        self.path.append(name)
        return self

    def get(self, fields: list[str], *, retry: Any, timeout: float) -> FakeFirestore:
        assert retry is None, "the library's own retries go on for a minute"
        assert timeout == TIMEOUT, "the deadline of each request is its own"
        self._answer = self._answers.pop(0)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self

    @property
    def exists(self) -> bool:
        return self._answer is not MISSING

    def to_dict(self) -> Any:
        return self._answer

    def create(self, fields: dict[str, Any], *, retry: Any, timeout: float) -> None:
        assert retry is None
        assert timeout == TIMEOUT
        if self._taken:
            raise AlreadyExists("taken")
        self.created.append(fields)

    def close(self) -> None:
        self.closed = True


def salts(*clients: Any, monotonic: Callable[[], float] = time.monotonic) -> FirestoreSalts:
    left = list(clients)
    return FirestoreSalts(lambda: left.pop(0), lambda: NOON, monotonic, batch_size=500)


def test_only_a_new_salt_needs_room_for_new_sites() -> None:
    client: Any = FakeFirestore({"salt": "theirs"}, MISSING)
    store = FirestoreSalts(lambda: client, lambda: NOON, batch_size=2, admit=refuse_new_site)

    assert store.get_or_create(SITE, TODAY) == "theirs"
    with pytest.raises(TooManyNewSites):
        store.get_or_create(SITE, TODAY)
    assert client.created == []


def test_the_first_machine_creates_the_document() -> None:
    firestore = FakeFirestore(MISSING)

    salt = salts(firestore).get_or_create(SITE, TODAY)

    assert firestore.path == ["salts", f"salt:2026-11-22:{SITE}"]
    assert firestore.created == [{"salt": salt, "created_at": NOON, "expires_at": datetime(2026, 11, 24, tzinfo=UTC)}]
    assert len(bytes.fromhex(salt)) == 32


def test_a_later_machine_uses_the_salt_of_the_first() -> None:
    assert salts(FakeFirestore({"salt": "theirs"})).get_or_create(SITE, TODAY) == "theirs"
    raced = FakeFirestore(MISSING, {"salt": "theirs"}, taken=True)
    assert salts(raced).get_or_create(SITE, TODAY) == "theirs"


@pytest.mark.parametrize("document", [{}, None, {"salt": None}, {"salt": ""}, {"salt": 7}, {"salt": b"bytes"}])
def test_a_document_without_a_salt_is_refused(document: Any) -> None:
    with pytest.raises(SaltUnavailable) as refused:
        salts(FakeFirestore(document)).get_or_create(SITE, TODAY)

    assert refused.value.store_answered


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("quotes anything"),
        GoogleAPIError("quotes anything"),
        ServiceUnavailable("quotes anything"),
        ValueError("Cannot invoke RPC on closed channel!"),
    ],
)
def test_an_error_is_reported_by_its_class(error: Exception) -> None:
    with pytest.raises(SaltUnavailable) as refused:
        salts(FakeFirestore(error)).get_or_create(SITE, TODAY)

    assert (str(refused.value), refused.value.store_answered) == (f"Firestore: {type(error).__name__}", False)


@pytest.mark.parametrize("error", [DefaultCredentialsError, PermissionError, AttributeError])
def test_missing_credentials_refuse_hits_but_do_not_stop_the_start(error: type[Exception]) -> None:
    def open_client() -> Any:
        raise error("quotes anything")

    store = FirestoreSalts(open_client, lambda: NOON, batch_size=500)
    store.prepare()

    with pytest.raises(SaltUnavailable, match=f"^Firestore: {error.__name__}$"):
        store.check()


def test_a_client_that_lost_its_connection_is_replaced() -> None:
    lost, refused, new = (
        FakeFirestore(ServiceUnavailable("")),
        FakeFirestore(PermissionDenied(""), {"salt": "a"}),
        FakeFirestore(),
    )
    store = salts(lost, refused, new)
    for _ in range(2):
        with pytest.raises(SaltUnavailable):
            store.get_or_create(SITE, TODAY)

    assert store.get_or_create(SITE, TODAY) == "a"
    assert (lost.closed, refused.closed) == (True, False)


def test_a_client_that_is_slow_to_start_is_kept() -> None:
    credentials, clients, seconds = threading.Event(), [], itertools.count(step=10.0)

    def open_client() -> Any:
        assert credentials.wait(60)
        clients.append(FakeFirestore(*[{"salt": "a"}] * 9))
        return clients[-1]

    store = FirestoreSalts(open_client, lambda: NOON, batch_size=500)
    breaker = SaltCircuitBreaker(store, lambda: next(seconds), deadline=0.05)
    with pytest.raises(SaltUnavailable):
        breaker.get_or_create(SITE, TODAY)
    credentials.set()

    def answers() -> bool:
        with contextlib.suppress(SaltUnavailable):
            return breaker.get_or_create(SITE, TODAY) == "a"
        return False

    wait_until(answers)
    assert [client.closed for client in clients] == [False]


def test_a_client_that_has_been_silent_for_long_is_replaced() -> None:
    now, late = [1000.0], DeadlineExceeded("")
    silent, new = FakeFirestore(late, PermissionDenied(""), late, late, late), FakeFirestore({"salt": "a"})
    store = salts(silent, new, monotonic=lambda: now[0])
    for passed in (0, SILENCE, SILENCE, SILENCE / 2, SILENCE / 2):
        assert not silent.closed
        now[0] += passed
        with pytest.raises(SaltUnavailable):
            store.get_or_create(SITE, TODAY)

    assert silent.closed
    assert store.get_or_create(SITE, TODAY) == "a"


def use_before_and_after_a_fork(answers: Any) -> None:
    parent_client, child_client = FakeFirestore({"salt": "parent"}), FakeFirestore({"salt": "child"})
    store = salts(parent_client, child_client)
    before = store.get_or_create(SITE, TODAY)
    if child := os.fork():
        answers.put((before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        return
    own = store.get_or_create(SITE, TODAY)
    os._exit(0 if own == "child" and not parent_client.closed else 1)


def test_a_process_made_by_fork_opens_a_client_of_its_own() -> None:
    assert result_of(use_before_and_after_a_fork) == ("parent", 0)
