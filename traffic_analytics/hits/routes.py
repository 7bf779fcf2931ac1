"""Define the routes of hits, and the middleware that answers hits without Flask."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from traffic_analytics.hits.endpoint import HitEndpoint
from traffic_analytics.runtime.cors import ALLOW_ORIGIN
from traffic_analytics.runtime.logs import RequestContext
from traffic_analytics.wsgi import JSON, PREFIX, Answer, to_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from traffic_analytics.hits.endpoint import Submitted

HIT_PATH = "/api/v1/page_hit"


def blueprint(hits: HitEndpoint) -> Blueprint:
    """Return the routes of hits."""
    routes = Blueprint("traffic_analytics", __name__)

    @routes.post(HIT_PATH)
    @routes.post(HIT_PATH + "/")
    def receive() -> Response:
        return to_response(hits(request.environ))

    return routes


class HitMiddleware:
    """WSGI middleware that answers hits itself and passes all other requests to Flask.

    It only saves time: the route exists in Flask too, with the same endpoint. Decision record 0005 (hits do not
    pass through Flask) has the measurement. A hit whose event is on its way is answered by a `PendingResponse`.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], hits: HitEndpoint) -> None:
        self._app = app
        self._hits = hits
        self._paths = frozenset({HIT_PATH, HIT_PATH + "/", PREFIX + HIT_PATH, PREFIX + HIT_PATH + "/"})

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        with RequestContext(environ):
            if environ["REQUEST_METHOD"] != "POST" or environ.get("PATH_INFO") not in self._paths:
                return self._app(environ, start_response)
            hit = self._hits.receive(environ)
        if not isinstance(hit, Answer):
            return PendingResponse(self._hits, hit, environ, start_response)
        _start(hit, start_response)
        return [hit.body]


class PendingResponse:
    """WSGI response to a hit whose event is on its way; it starts once the outcome is known.

    A server that calls all requests at hand before it awaits their responses has their events delivered together. It
    calls `on_ready` to learn when iterating does not block, or iterates at once and waits, as PEP 3333 allows.
    """

    __slots__ = ("_data_source", "_environ", "_event", "_hits", "_is_answered", "_site", "_start_response")

    def __init__(
        self, hits: HitEndpoint, hit: Submitted, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> None:
        self._event, self._data_source, self._site = hit
        self._hits = hits
        self._environ = environ
        self._start_response = start_response
        self._is_answered = False

    def on_ready(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when iterating does not block: within this call, or later in another thread.

        The call may do the work for this hit and for others, so it is called after all requests at hand.
        """
        self._event.on_ready(callback)

    def __iter__(self) -> Iterator[bytes]:
        """Wait for the outcome, start the response, and yield its body."""
        answer = self._answer()
        _start(answer, self._start_response)
        yield answer.body

    def close(self) -> None:
        """Have the event delivered and its outcome counted, even if the server drops the response."""
        if not self._is_answered:
            self._event.on_ready(self._answer)

    def _answer(self) -> Answer:
        self._is_answered = True
        outcome = self._event.wait()
        with RequestContext(self._environ):
            return self._hits.answer(outcome, self._data_source, self._site)


def _start(answer: Answer, start_response: Callable[..., Any]) -> None:
    headers = [("content-type", JSON), ("content-length", str(len(answer.body))), ALLOW_ORIGIN, *answer.headers]
    start_response(_STATUS_LINES[answer.status], headers)


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
