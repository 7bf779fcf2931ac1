"""Accept connections, and continue after errors of accept()."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

ACCEPT_PAUSE = 0.1
"""Time without new connections after accept() has failed, in seconds; trying at once would occupy the CPU."""
BROKEN_LISTENER = (errno.EBADF, errno.EINVAL, errno.EFAULT, errno.ENOTSOCK, errno.EOPNOTSUPP)
"""Errors of accept() that last; the worker ends, and gunicorn replaces it."""


class Acceptor:
    """Listening sockets of one worker.

    `add` receives each socket, which does not block, and its address. `make_room` closes a connection if it can, and
    returns whether it did.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        log: logging.Logger,
        add: Callable[[socket.socket, Any], None],
        make_room: Callable[[], bool],
    ) -> None:
        self.is_enabled = False
        self._listeners = listeners
        self._selector = selector
        self._log = log
        self._add = add
        self._make_room = make_room
        self._paused_until = 0.0

    def enable(self, enabled: bool, now: float) -> None:
        """Start or stop accepting; new clients wait in the kernel's backlog meanwhile."""
        enabled = enabled and now >= self._paused_until
        if enabled == self.is_enabled:
            return
        self.is_enabled = enabled
        for listener in self._listeners:
            if enabled:
                listener.setblocking(False)
                self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            else:
                self._selector.unregister(listener)

    def close(self) -> None:
        """Stop accepting for good."""
        self.enable(False, 0.0)
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in BROKEN_LISTENER:
                raise
            # The log filter of runtime/logs.py limits its rate.
            self._log.error("no connection: %s", error.strerror, extra={"event": "AcceptFailed"})
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._make_room():
                self._paused_until = time.monotonic() + ACCEPT_PAUSE
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # the client may have left
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._add(sock, address)
