"""Check and open a subscription whose client returns one response."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError

from traffic_analytics.pubsub.subscription import Subscription


class Client:
    """A client that returns one response to a check."""

    def __init__(self, answer: Exception | None) -> None:
        self._answer = answer
        self.subscribed = False
        self.closed = False
        self.stream: Future[None] = Future()

    def modify_ack_deadline(self, **_: Any) -> None:
        if self._answer is not None:
            raise self._answer

    def subscribe(self, *_: Any, **__: Any) -> Future[None]:
        self.subscribed = True
        return self.stream

    def close(self) -> None:
        self.closed = True


def subscription(make_client: Any, monkeypatch: pytest.MonkeyPatch) -> Subscription:
    monkeypatch.setattr(Subscription, "_make_client", lambda _self: make_client())
    return Subscription("page-hits", "project", max_messages=10, max_bytes=1000, monotonic=lambda: 0.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, None),
        (exceptions.InvalidArgument("no such ack id"), None),
        (exceptions.FailedPrecondition("about a message that does not exist"), None),
        (exceptions.NotFound("x"), "NotFound: does it exist"),
        (exceptions.PermissionDenied("x"), "PermissionDenied: does it exist, and may"),
        (exceptions.ServiceUnavailable("x"), "cannot be reached: ServiceUnavailable"),
        (exceptions.DeadlineExceeded("x"), "cannot be reached: DeadlineExceeded"),
        (RefreshError("the-secret"), "cannot be reached: RefreshError"),
    ],
)
def test_only_an_error_about_the_subscription_keeps_it_closed(
    answer: Exception | None, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(answer)
    opened = subscription(lambda: client, monkeypatch)

    problem = opened.open()

    assert (problem is None, opened.is_open, client.subscribed, client.closed) == (
        (True, True, True, False) if reason is None else (False, False, False, True)
    )
    assert (reason or "") in (problem or "")
    assert "secret" not in (problem or "")
    assert opened.check() == problem


def test_unreadable_credentials_are_named_by_the_class_of_their_error_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_client() -> Client:
        raise IsADirectoryError("/run/secrets/key")

    opened = subscription(make_client, monkeypatch)

    assert opened.open() == opened.check() == "it cannot be opened: IsADirectoryError"
    assert not opened.is_open


def test_a_stream_that_ends_by_itself_has_a_reason_even_if_its_reader_ends_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(None)
    opened = subscription(lambda: client, monkeypatch)
    opened.open()
    opened._reader = threading.Thread()  # not alive, as one that has ended
    assert opened.ended() is None

    client.stream.set_exception(exceptions.NotFound("x"))

    assert opened.ended() == "NotFound"
    assert client.closed
