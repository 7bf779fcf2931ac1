"""Hold one client connection's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traffic_analytics.gunicorn_worker.request_framing import RequestFraming

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from traffic_analytics.gunicorn_worker.request_head import Head


class Connection:
    """Client connection, the bytes received and not yet served, and the bytes not yet sent."""

    __slots__ = (
        "address",
        "buffer",
        "busy",
        "continue_sent",
        "counted",
        "deadline",
        "drained",
        "framing",
        "is_cut",
        "keep",
        "paused",
        "peer",
        "request",
        "sock",
        "stage",
        "unsent",
        "unsent_counted",
    )

    def __init__(
        self, sock: socket.socket, address: Any, parse: Callable[[bytes], Head], peer: str | None = None
    ) -> None:
        self.sock = sock
        self.address = address
        self.peer = peer  # key of the client's address in ConnectionTable, if those are limited
        self.buffer = bytearray()
        self.unsent = memoryview(b"")
        self.framing = RequestFraming(parse)
        self.request: RequestFraming | None = None  # the request that is served
        self.stage: dict[Connection, None] | None = None
        self.deadline = 0.0
        self.busy = False  # a thread serves it, or will, or its response is being sent
        self.is_cut = False  # the body of the request that is served is not read to its end
        self.keep = False  # after the response that is being sent
        self.paused = False  # not registered for reading
        self.continue_sent = False
        self.counted = 0  # length of the buffer in ConnectionTable.received, in bytes
        self.unsent_counted = 0  # length of the response in ConnectionTable.unsent, in bytes
        self.drained = 0  # read and dropped while draining, in bytes
