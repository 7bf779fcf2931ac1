"""Hold the open connections by stage, and choose the ones to close when there are too many or they hold too much.

- A connection is busy or in exactly one stage. A stage is ordered by deadline, since its connections all have equally
  long ones; only connections in a stage are closed to make room.
- Too many connections: the oldest of the largest stage is closed. A flood of one kind displaces itself, and a new
  visitor is the last of a stage.
- Too many bytes received: connections that hold more than a usual hit are closed, the oldest first.
- Too many bytes unsent: the responses that have been sent longest are cut short, all but the last.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traffic_analytics.gunicorn_worker.connection import Connection

RECEIVED_LIMIT = 32 * 1024 * 1024
"""Requests longer than USUAL_REQUEST that a worker holds before they are served, in bytes."""
UNSENT_LIMIT = 32 * 1024 * 1024
"""Responses that a worker holds for slow clients, in bytes; a single one may be longer."""
USUAL_REQUEST = 4096
"""Length up to which a request is held regardless of RECEIVED_LIMIT, in bytes."""
PARSED_SIZE = 2
"""Size of parsed headers, in lengths of the same headers as they arrived, at most."""
PEER_LIMIT = 256
"""Connections that one address may have open in a worker, if addresses are limited."""


class ConnectionTable:
    """Open connections of one worker; all methods require the worker's lock."""

    def __init__(self) -> None:
        self.limit_peers = False
        self.all: set[Connection] = set()
        self.draining: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}
        self.reading: dict[Connection, None] = {}
        self.reading_large: dict[Connection, None] = {}
        self.writing: dict[Connection, None] = {}
        self.stages = (self.draining, self.idle, self.reading, self.reading_large, self.writing)
        self.holding_large: set[Connection] = set()  # connections with a large body in memory
        self.received = 0  # bytes in all buffers that are longer than a usual request, large bodies aside
        self.unsent = 0  # bytes of all responses that are being sent
        self._long: dict[Connection, None] = {}  # these connections but the busy ones, in the order they became such
        self._by_peer: dict[str, dict[Connection, None]] = {}

    def peer(self, address: Any) -> str | None:
        """Return the key under which an address is limited: an IPv4 address, or an IPv6 network of 64 bits."""
        if not self.limit_peers or not isinstance(address, tuple):
            return None
        parsed = ipaddress.ip_address(address[0].partition("%")[0])
        if isinstance(parsed, ipaddress.IPv4Address):
            return str(parsed)
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))

    def add(self, connection: Connection) -> None:
        """Hold a new connection, in no stage yet."""
        self.all.add(connection)
        if connection.peer is not None:
            self._by_peer.setdefault(connection.peer, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection and what it holds."""
        self.enter(None, connection)
        self.all.discard(connection)
        self.holding_large.discard(connection)
        connection.buffer.clear()
        self.count(connection)
        self.release_response(connection)
        if connection.peer is not None:
            siblings = self._by_peer[connection.peer]
            del siblings[connection]
            if not siblings:
                del self._by_peer[connection.peer]

    def enter(self, stage: dict[Connection, None] | None, connection: Connection, deadline: float = 0.0) -> None:
        """Move a connection to the end of a stage; None is no stage, for a busy connection."""
        if connection.stage is not None:
            del connection.stage[connection]
        connection.stage = stage
        if stage is not None:
            connection.deadline = deadline
            stage[connection] = None

    def count(self, connection: Connection) -> None:
        """Count a buffer that is, or was, longer than a usual request; called after each change of it."""
        size = len(connection.buffer)
        if size <= USUAL_REQUEST or connection in self.holding_large:
            size = 0
        else:
            size += PARSED_SIZE * connection.framing.body
        self.received += size - connection.counted
        connection.counted = size
        if size and not connection.busy:
            self._long[connection] = None
        else:
            self._long.pop(connection, None)

    def hold_response(self, connection: Connection, rest: bytes) -> None:
        """Hold the end of a response that the client has not accepted yet."""
        connection.unsent = memoryview(rest)
        connection.unsent_counted = len(rest)
        self.unsent += len(rest)

    def release_response(self, connection: Connection) -> None:
        """Free a response that is sent, or will not be."""
        self.unsent -= connection.unsent_counted
        connection.unsent_counted = 0
        connection.unsent = memoryview(b"")

    def expired(self, now: float) -> Iterator[Connection]:
        """Yield the connections whose deadline has passed; each must be removed before the next."""
        for stage in self.stages:
            while stage and (first := next(iter(stage))).deadline <= now:
                yield first

    def too_many_bytes(self) -> Iterator[Connection]:
        """Yield connections until the rest holds no more than the limits; each must be removed before the next."""
        while self.received > RECEIVED_LIMIT and self._long:
            yield next(iter(self._long))
        while self.unsent > UNSENT_LIMIT and len(self.writing) > 1:
            yield next(iter(self.writing))

    def oldest(self) -> Connection | None:
        """Return the connection to close if there are too many."""
        largest: dict[Connection, None] = max(self.stages, key=len)
        return next(iter(largest), None)

    def one_too_many_of_its_peer(self, connection: Connection) -> Connection | None:
        """Return the oldest connection of the same address that can be closed, if there are more than PEER_LIMIT."""
        if connection.peer is None or len(siblings := self._by_peer[connection.peer]) <= PEER_LIMIT:
            return None
        return next((each for each in siblings if each.stage is not None), None)
