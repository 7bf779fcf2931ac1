"""A server whose responses are written byte by byte, as a test needs them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def server(respond: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen, read each request (a GET, or a POST of `{}`) and call `respond` with its connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not data.endswith(b"\r\n\r\n" if data.startswith(b"GET ") else b"\r\n\r\n{}"):
                    data += connection.recv(65536)
                with suppress(OSError):
                    respond(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def drip(connection: socket.socket, text: bytes) -> None:
    """Send one byte every 50 ms."""
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)
