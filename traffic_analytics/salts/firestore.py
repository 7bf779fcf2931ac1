"""Store salts in Firestore, for all machines that use the same database."""

from __future__ import annotations

import contextlib
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
from traffic_analytics.runtime.lazy_client import LazyClient, NotReady
from traffic_analytics.salts.circuit_breaker import DEADLINE
from traffic_analytics.salts.new_sites import admit_all
from traffic_analytics.salts.store import new_salt, parse_salt, salt_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from traffic_analytics.salts.store import Scope

COLLECTION = "salts"
TIMEOUT = DEADLINE
"""Time for one request, and for opening the client, in seconds; circuit_breaker.py bounds all of a hit together."""
SWEEP_TIMEOUT = 10.0
"""Time for one request of a sweep, in seconds; no hit waits for it."""
SILENCE = 10.0
"""Time without any response after which a client is replaced, in seconds.

A new client may need a few seconds to get its token and connect. If one timeout replaced it, none would ever connect.
"""

# A closed channel is a ValueError: another thread has replaced the client that this one was about to use.
_FAILURES = (GoogleAPIError, GoogleAuthError, grpc.RpcError, ValueError)


def firestore_client(project: str | None, database: str) -> Client:
    """Open Firestore, or the emulator that FIRESTORE_EMULATOR_HOST names."""
    return Client(project=project, database=database)


class FirestoreSalts:
    """Store each salt as the document `salts/salt:YYYY-MM-DD:site_uuid`, which one machine creates and all read.

    Node services use the same documents. A document holds `salt`, `created_at` and `expires_at`; Firestore can delete
    it by the latter if no service sweeps.
    """

    scope: Scope = "network"
    chore = None

    def __init__(
        self,
        open_client: Callable[[], Client],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        batch_size: int,
        admit: Callable[[str], None] = admit_all,
    ) -> None:
        self._admit = admit
        self._client = LazyClient(open_client, monotonic)
        self._clock = clock
        self._monotonic = monotonic
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._silent_since: float | None = None

    def prepare(self) -> None:
        """Do nothing: the client is opened by the first request of each process."""

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day; the first machine creates it."""
        with self._use() as client:
            document = client.collection(COLLECTION).document(salt_key(site_uuid, day))
            snapshot = _read(document)
            if not snapshot.exists:
                self._admit(site_uuid)
                created = new_salt()
                try:
                    document.create(self._fields(created, day), retry=None, timeout=TIMEOUT)
                except AlreadyExists:
                    snapshot = _read(document)
                else:
                    return created
        return parse_salt((snapshot.to_dict() or {}).get("salt"))

    def forget_before(self, day: date) -> int:
        """Delete the salts of all earlier days in batches, and return their number.

        Several machines may do so at once; a salt that two of them delete is counted twice.
        """
        count = 0
        with self._use(SWEEP_TIMEOUT) as client:
            salts = client.collection(COLLECTION)
            past = (
                salts.where(filter=FieldFilter("__name__", ">=", salts.document("salt:")))
                .where(filter=FieldFilter("__name__", "<", salts.document(salt_key("", day))))
                .select([])
                .limit(self._batch_size)
            )
            while True:
                references = [each.reference for each in past.stream(retry=None, timeout=SWEEP_TIMEOUT)]
                if not references:
                    return count
                batch = client.batch()
                for reference in references:
                    batch.delete(reference)
                batch.commit(retry=_retry_contention(), timeout=SWEEP_TIMEOUT)
                count += len(references)

    def check(self) -> None:
        """Check that Firestore responds, by reading a document that need not exist."""
        with self._use() as client:
            _read(client.collection(COLLECTION).document("check"))

    def _fields(self, salt: str, day: date) -> dict[str, Any]:
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
        return {"salt": salt, "created_at": self._clock(), "expires_at": end}

    @contextlib.contextmanager
    def _use(self, timeout: float = TIMEOUT) -> Iterator[Client]:
        """Yield this process's client; errors carry the class of their cause only, since messages may quote a key."""
        try:
            client = self._client.get(timeout)
        except NotReady as error:
            raise SaltUnavailable(f"Firestore: {error}") from error
        try:
            yield client
        except _FAILURES as error:
            if self._is_lost(error):
                self._replace(client)
            raise SaltUnavailable(f"Firestore: {type(error).__name__}") from error
        self._silent_since = None

    def _is_lost(self, error: Exception) -> bool:
        """Return whether a new client is likely to do better than the one that failed."""
        with self._lock:
            if not isinstance(error, DeadlineExceeded):
                self._silent_since = None
                return isinstance(error, ServiceUnavailable)
            now = self._monotonic()
            if self._silent_since is None:
                self._silent_since = now
            return now - self._silent_since >= SILENCE

    def _replace(self, client: Client) -> None:
        """Have the next request open a new client: gRPC waits up to two minutes before it tries an address again."""
        if self._client.discard(client):
            self._silent_since = None
            client.close()  # type: ignore[no-untyped-call]


def _read(document: Any) -> Any:
    return document.get(["salt"], retry=None, timeout=TIMEOUT)


def _retry_contention() -> Retry:
    """Retry for a few seconds if another machine deletes the same documents."""
    return Retry(if_exception_type(Aborted), initial=0.1, maximum=1.0, timeout=SWEEP_TIMEOUT)
