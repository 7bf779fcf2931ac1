"""Run a program that drives a real Ghost against store and service: `make ghost GHOST_E2E=/path/to/program`.

docs/develop/testing.md says what the program is told and what it has to do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from tests.support.processes import free_port, wait_until

ROOT = Path(__file__).parents[2]
BLOG = "http://127.0.0.1:2369"
PREFIX = "/.ghost/analytics"
WAYS = {
    "hits from another origin": {},
    "hits on the blog's own origin": {"TRACKER_ENDPOINT": f"{BLOG}{PREFIX}/api/v1/page_hit"},
    "statistics of version 2": {"tinybird__stats__version": "v2"},
}


def main(program: str) -> int:
    """Return 0 if the program says in each way that Ghost and the service agree."""
    if shutil.which(program) is None:
        print("GHOST_E2E must name a program that drives a Ghost; docs/develop/testing.md says what it has to do.")
        return 2
    with tempfile.TemporaryDirectory() as data_dir:
        port, store_port = free_port(), free_port()
        admin_token = secrets.token_urlsafe(32)
        inherited = dict(os.environ)  # noqa: TID251 - the program may need any of it
        service = f"http://127.0.0.1:{port}"
        ours = {
            "DATA_DIR": data_dir,
            "PORT": str(port),
            "STORE_BIND": f"127.0.0.1:{store_port}",
            "TINYBIRD_ADMIN_TOKEN": admin_token,
            "STATS_CACHE_SECONDS": "60",  # as in production
            "LOG_EVENTS": "false",
        }
        running = subprocess.Popen([sys.executable, "-m", "development"], cwd=ROOT, env=inherited | ours)
        try:
            wait_until(lambda: running.poll() is None and answers(service))
            wait_until(lambda: answers(f"http://127.0.0.1:{store_port}"))
            told = {
                "SERVICE_URL": service,
                "BLOG_URL": BLOG,
                "STATS_ENDPOINT": BLOG + PREFIX,
                "TINYBIRD_ADMIN_TOKEN": admin_token,
                "NODE_ENV": "production",
            }
            codes = {}
            for name, way in WAYS.items():
                print(f"\n{name}\n", flush=True)
                for _ in range(2):
                    codes[name] = subprocess.run([program], env=inherited | told | way, check=False).returncode
                    if codes[name] in (0, 1):
                        break
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(40)
    for name, code in codes.items():
        print(f"{'FAIL' if code else 'ok':<5}{name}")
    return max(map(abs, codes.values()))


def answers(url: str) -> bool:
    """Say whether somebody is there."""
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
