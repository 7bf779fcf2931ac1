"""Give the events of one run a past, for a picture of the dashboard."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import requests

DAYS = 30


class Backdating:
    """An HTTP server between service and store that moves each visitor's events to one of the last 30 days."""

    def __init__(self, store: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                response = requests.post(
                    store + self.path,
                    data="\n".join(json.dumps(backdate(json.loads(line))) for line in body.splitlines()),
                    headers={name: self.headers[name] for name in ("Authorization", "Content-Type")},
                    timeout=30,
                )
                self.send_response(response.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(response.content)))
                self.end_headers()
                self.wfile.write(response.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def backdate(event: dict[str, Any]) -> dict[str, Any]:
    """Move an event to a day that depends on its visitor only; recent days get more visitors."""
    fraction = int(hashlib.sha256(event["session_id"].encode()).hexdigest()[:8], 16) / 16**8
    day = date.fromisoformat(event["timestamp"][:10]) - timedelta(days=int(DAYS * fraction**1.4))
    return event | {"timestamp": day.isoformat() + event["timestamp"][10:]}
