"""Answer requests that gunicorn refuses as the store answers all others: with JSON, and without a line in the log."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from gunicorn.http import errors
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from traffic_analytics.runtime.cors import ALLOW_ORIGIN
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT

if TYPE_CHECKING:
    import socket

REFUSALS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    errors.LimitRequestLine: (
        HTTPStatus.REQUEST_URI_TOO_LONG,
        f"the URL is longer than {PARAMETERS_LIMIT} bytes; send the parameters as the body of a POST",
    ),
    errors.LimitRequestHeaders: (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long"),
    errors.ParseException: (HTTPStatus.BAD_REQUEST, "the request is not valid HTTP"),
}
"""Responses by error; the first that an error is an instance of counts."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, whose refusals are JSON."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Send the response to a request that cannot be read; other errors are left to gunicorn.

        gunicorn would log the address of the peer.
        """
        refusal = next((answer for kind, answer in REFUSALS.items() if isinstance(exc, kind)), None)
        if refusal is None or isinstance(exc, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName):
            super().handle_error(req, client, addr, exc)
            return
        status, message = refusal
        body = msgspec.json.encode({"error": message})
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if not self.wsgi.extensions["store"].settings.open_to_all:
            lines.append(": ".join(ALLOW_ORIGIN))
        try:
            write_nonblock(client, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        except OSError:
            self.log.debug("a client did not read the refusal of its request")
