"""Run a program that drives a real Ghost against store and service: `make ghost GHOST_E2E=/path/to/program`.

docs/develop/testing.md describes the program's variables and duties. With PICTURE and SCREENSHOT, the program runs
once, its events are spread over the past 30 days, and the screenshot that it leaves is copied.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from tests.ghost.backdating import Backdating
from tests.support.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BLOG = "http://127.0.0.1:2369"
PREFIX = "/.ghost/analytics"
WAYS = {
    "hits from another origin": {},
    "hits on the blog's own origin": {"TRACKER_ENDPOINT": f"{BLOG}{PREFIX}/api/v1/page_hit"},
    "statistics of version 2": {"tinybird__stats__version": "v2"},
}
INHERITED = dict(os.environ)  # noqa: TID251 - the program may need any of it


def compare(program: str) -> int:
    """Run the program in each way; return 0 if Ghost and the service agree in all."""
    codes = {}
    with running(free_port()) as environment:
        for name, way in WAYS.items():
            print(f"\n{name}\n", flush=True)
            for _ in range(2):
                codes[name] = subprocess.run([program], env=environment | way, check=False).returncode
                if codes[name] in (0, 1):
                    break
    for name, code in codes.items():
        print(f"{'FAIL' if code else 'ok':<5}{name}")
    return max(map(abs, codes.values()))


def take_picture(program: str, picture: Path, screenshot: Path) -> int:
    """Run the program once and copy its screenshot of a month; its comparisons of the present day fail."""
    store_port = free_port()
    screenshot.unlink(missing_ok=True)
    with (
        Backdating(f"http://127.0.0.1:{store_port}") as target,
        running(store_port, PROXY_TARGET=target.url) as environment,
    ):
        subprocess.run([program], env=environment, check=False)
    shutil.copyfile(screenshot, picture)
    return 0


@contextlib.contextmanager
def running(store_port: int, **more: str) -> Iterator[dict[str, str]]:
    """Run store and service with the settings of production, and yield the program's environment."""
    with tempfile.TemporaryDirectory() as data_dir:
        port = free_port()
        service, store = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{store_port}"
        admin_token = secrets.token_urlsafe(32)
        settings = {
            "DATA_DIR": data_dir,
            "PORT": str(port),
            "STORE_BIND": f"127.0.0.1:{store_port}",
            "PROXY_TARGET": store,
            "STATS_TARGET": store,
            "TINYBIRD_TRACKER_TOKEN": secrets.token_urlsafe(32),
            "TINYBIRD_ADMIN_TOKEN": admin_token,
            "STATS_CACHE_SECONDS": "60",
            "LOG_EVENTS": "false",
        }
        process = subprocess.Popen([sys.executable, "-m", "development"], cwd=ROOT, env=INHERITED | settings | more)
        try:
            wait_until(lambda: process.poll() is None and is_healthy(service))
            wait_until(lambda: is_healthy(store))
            yield INHERITED | {
                "SERVICE_URL": service,
                "BLOG_URL": BLOG,
                "STATS_ENDPOINT": BLOG + PREFIX,
                "TINYBIRD_ADMIN_TOKEN": admin_token,
                "NODE_ENV": "production",
            }
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def is_healthy(url: str) -> bool:
    """Return whether the server answers its health check."""
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False


def main(program: str, picture: str = "", screenshot: str = "") -> int:
    """Return 0 for success, 1 for a difference, 2 if the program cannot run."""
    if shutil.which(program) is None:
        print("GHOST_E2E must name a program that drives a Ghost; docs/develop/testing.md describes it.")
        return 2
    if not picture:
        return compare(program)
    if not screenshot:
        print("SCREENSHOT must name the file that the program leaves.")
        return 2
    return take_picture(program, Path(picture), Path(screenshot))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
