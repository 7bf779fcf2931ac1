"""Stand in for a Ghost behind nginx, which passes Ghost's prefix to the service."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Self

import requests

from tests.support.processes import LocalServer, QuietHandler, free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

SITE = "940b73e9-4952-4752-b23d-9486f999c47e"
PREFIX = "/.ghost/analytics"
NGINX = shutil.which("nginx")
CONFIGURATION = """
daemon off; pid nginx.pid; error_log stderr warn; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{service_port}/;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
    location / {{ proxy_pass {ghost}; }}
  }}
}}
"""


class Blog:
    """A page with Ghost's script, behind nginx, within a `with` block."""

    def __init__(self, directory: Path, service_port: int, prefix: str = PREFIX) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.script = self.tag(f"{self.url}{PREFIX}/api/v1/page_hit")
        blog = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
                found = {"/": blog.script, "/public/ghost-stats.min.js": "// the script"}.get(self.path)
                body = f"<!DOCTYPE html><html><head>{found}</head></html>".encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._ghost = LocalServer(Handler)
        (directory / "nginx").mkdir()
        (directory / "nginx" / "nginx.conf").write_text(
            CONFIGURATION.format(port=self.port, prefix=prefix, service_port=service_port, ghost=self._ghost.url)
        )
        command = [str(NGINX), "-p", str(directory / "nginx"), "-c", "nginx.conf"]
        self._nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    @staticmethod
    def tag(host: str) -> str:
        """Return the tag that Ghost 6 prints."""
        return (
            '<script defer src="/public/ghost-stats.min.js" data-stringify-payload="false" data-storage="localStorage" '
            f'data-host="{host}"  tb_site_uuid="{SITE}" tb_post_uuid="undefined" tb_post_type="null"></script>'
        )

    def answers(self) -> bool:
        """Return whether the page can be fetched."""
        assert self._nginx.poll() is None
        try:
            return requests.get(self.url, timeout=5).ok
        except requests.ConnectionError:
            return False

    def __enter__(self) -> Self:
        self._ghost.__enter__()
        wait_until(self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._nginx.terminate()
        self._nginx.wait(10)
        self._ghost.__exit__()
