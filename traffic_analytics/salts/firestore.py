"""In Firestore a salt is a document that only one machine can create and everybody can read, Node services included."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core.exceptions import Aborted, AlreadyExists, DeadlineExceeded, GoogleAPIError, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import Client, FieldFilter

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.store import new_salt, parse_salt, salt_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

COLLECTION = "salts"
TIMEOUT = 1.0
"""Seconds for each answer; salt_guard.py sees to it that no hit waits for several of them, nor for the client."""
SWEEP_TIMEOUT = 10.0
"""Seconds for each request of a sweep, for which nobody waits."""
SILENCE = 10.0
"""Seconds without any answer after which a client is given up. One that has just been opened may need a few of them to
get its token and connect; given up at its first silence it would never get there, nor would the next."""

# A closed channel is a ValueError: another thread has given the client up while this one was about to use it.
_FAILURES = (GoogleAPIError, GoogleAuthError, grpc.RpcError, ValueError)


def firestore_client(project: str | None, database: str) -> Client:
    """Open Firestore, or the emulator that FIRESTORE_EMULATOR_HOST names."""
    return Client(project=project, database=database)


class FirestoreSalts:
    """Salts of all machines that use the same database, as documents `salts/salt:YYYY-MM-DD:site_uuid`.

    A document holds `salt`, `created_at`, and `expires_at` for Firestore's own deletion, should nobody sweep. The
    client opens with the first question in the process that asks: gRPC does not survive a fork.
    """

    def __init__(
        self,
        open_client: Callable[[], Client],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        batch_size: int,
    ) -> None:
        self._open_client = open_client
        self._clock = clock
        self._monotonic = monotonic
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._owner: int | None = None
        self._silent_since: float | None = None

    def prepare(self) -> None:
        """Need nothing: this runs before the fork, and what is opened there is dead after it."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day, made by whichever machine came first."""
        with self._use() as client:
            document = client.collection(COLLECTION).document(salt_key(site_uuid, day))
            snapshot = _read(document)
            if not snapshot.exists:
                mine = new_salt()
                try:
                    document.create(self._fields(mine, day), retry=None, timeout=TIMEOUT)
                except AlreadyExists:
                    snapshot = _read(document)
                else:
                    return mine
        return parse_salt((snapshot.to_dict() or {}).get("salt"))

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days, a batch at a time, and say how many there were.

        Several machines may do so at once: what another has deleted already is no error, only counted twice.
        """
        count = 0
        with self._use() as client:
            salts = client.collection(COLLECTION)
            past = (
                salts.where(filter=FieldFilter("__name__", ">=", salts.document("salt:")))
                .where(filter=FieldFilter("__name__", "<", salts.document(salt_key("", day))))
                .select([])
                .limit(self._batch_size)
            )
            while True:
                found = [each.reference for each in past.stream(retry=None, timeout=SWEEP_TIMEOUT)]
                if not found:
                    return count
                batch = client.batch()
                for reference in found:
                    batch.delete(reference)
                batch.commit(retry=_contended(), timeout=SWEEP_TIMEOUT)
                count += len(found)

    def check(self) -> None:
        """Find out whether Firestore answers, by reading a document that need not exist."""
        with self._use() as client:
            _read(client.collection(COLLECTION).document("check"))

    def _fields(self, salt: str, day: date) -> dict[str, Any]:
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
        return {"salt": salt, "created_at": self._clock(), "expires_at": end}

    @contextlib.contextmanager
    def _use(self) -> Iterator[Client]:
        """Lend this process's client, and name what goes wrong by its class: messages may quote anything."""
        client = self._opened()
        try:
            yield client
        except _FAILURES as error:
            if self._note(error):
                self._give_up(client)
            raise _unavailable(error) from error
        self._silent_since = None

    def _opened(self) -> Client:
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                try:
                    self._client, self._owner = self._open_client(), os.getpid()
                except Exception as error:  # whatever a key file may hold, or not let us read
                    raise _unavailable(error) from error
                self._silent_since = None
            return self._client

    def _note(self, error: Exception) -> bool:
        """Remember since when nothing is answered; True if a new client would do better."""
        with self._lock:
            if not isinstance(error, DeadlineExceeded):
                self._silent_since = None
                return isinstance(error, ServiceUnavailable)
            now = self._monotonic()
            if self._silent_since is None:
                self._silent_since = now
            return now - self._silent_since >= SILENCE

    def _give_up(self, client: Client) -> None:
        """Let the next question open a new client: gRPC waits up to two minutes before it tries an address again."""
        with self._lock:
            if self._client is not client:
                return
            self._client = None
        client.close()  # type: ignore[no-untyped-call]


def _unavailable(error: Exception) -> SaltUnavailable:
    return SaltUnavailable(f"Firestore: {type(error).__name__}")


def _read(document: Any) -> Any:
    return document.get(["salt"], retry=None, timeout=TIMEOUT)


def _contended() -> Retry:
    """Try again for a few seconds if another machine deletes the same documents at this moment."""
    return Retry(if_exception_type(Aborted), initial=0.1, maximum=1.0, timeout=SWEEP_TIMEOUT)
