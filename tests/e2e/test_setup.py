"""An installation that `setup` of the wheel writes counts a hit that comes through a real nginx."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from dotenv import dotenv_values

from tests.support.app import FIREFOX, SITE, page_hit
from tests.support.blog import Blog
from tests.support.processes import ROOT, Upstream, free_port, wait_until
from tests.support.tokens import claims, fixed, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="needs nginx"),
]
CLAIMED = ("203.0.113.7", "203.0.113.8")
"""Addresses that one client claims; behind one proxy they must not be believed."""


SITE_OF_GHOST_CLI = """server {
    listen 127.0.0.1:PORT;

    server_name blog.example;

    location / {
        default_type text/html;
        return 200 'TAG';
    }

    location ~ /.ghost {
        return 403;
    }

    client_max_body_size 50m;
}
"""


class Installation:
    """Files that `setup` writes into a directory of its own, and the processes that they describe."""

    def __init__(self, wheel: Path, directory: Path, *options: str, **tokens: str) -> None:
        self.directory = directory
        self.commands = wheel / "bin"
        self.port, self.store_port, self.public_port = free_port(), free_port(), free_port()
        self.blog = f"http://127.0.0.1:{self.public_port}"
        self.queries = 0
        self._options = options
        self._tokens = tokens

    def setup(self, *more: str) -> str:
        options = [f"--blog={self.blog}", f"--directory={self.directory}", f"--user={getpass.getuser()}", "--yes"]
        options += [f"--port={self.port}", f"--store-port={self.store_port}", *self._options, *more]
        done = subprocess.run(
            [self.commands / "traffic-analytics", "setup", *options],
            env={"PATH": os.defpath, **self._tokens},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def variables(self) -> dict[str, str]:
        return {name: value or "" for name, value in dotenv_values(self.directory / ".env").items()}

    def units(self) -> list[Path]:
        return sorted(self.directory.glob("*.service"))

    @contextlib.contextmanager
    def nginx(self) -> Iterator[None]:
        """Run nginx in front, with the location block that setup wrote; nginx tests the configuration first."""
        directory = self.directory / "nginx"
        directory.mkdir()
        paths = "".join(f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi"))
        paths += "".join(f"{name}_temp_path {directory}/{name};" for name in ("uwsgi", "scgi"))
        site = directory / "blog.example.conf"
        tag = Blog.tag(f"{self.blog}/.ghost/analytics/api/v1/page_hit")
        site.write_text(SITE_OF_GHOST_CLI.replace("PORT", str(self.public_port)).replace("TAG", tag))
        sed = re.search(r"sudo (sed (?:.*\\\n)+) +/etc/nginx/", (ROOT / "docs/operate/with-ghost-cli.md").read_text())
        assert sed is not None
        block = str(self.directory / "traffic-analytics.nginx.conf")
        lines = sed[1].replace("/etc/nginx/snippets/traffic-analytics.conf", block)
        command = shlex.split(lines.replace("\\\n", ""))
        subprocess.run([*command, site], check=True)
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {directory}/pid; error_log {directory}/error.log; events {{}}"
            f" http {{ access_log {directory}/access.log; {paths} include {site}; }}"
        )
        command = ["/usr/sbin/nginx", "-e", str(directory / "error.log"), "-c", str(configuration)]
        test = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=30)
        assert test.returncode == 0, test.stderr
        process = subprocess.Popen(command)
        try:
            wait_until(lambda: is_open(self.public_port))
            yield
        finally:
            process.terminate()
            process.wait(30)

    def doctor(self) -> Any:
        """Run `doctor` beside `.env`, as the pages of the documentation do."""
        done = subprocess.run(
            [self.commands / "traffic-analytics", "doctor", self.blog, "--json"],
            env={"PATH": os.defpath},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return json.loads(done.stdout)

    def post_hit(self, address: str = CLAIMED[0]) -> requests.Response:
        return requests.post(
            f"{self.blog}/.ghost/analytics/api/v1/page_hit?name=analytics_events",
            json=page_hit(),
            headers={"User-Agent": FIREFOX, "x-site-uuid": SITE, "X-Forwarded-For": address},
            timeout=30,
        )

    def visits(self) -> int:
        """Ask for statistics through nginx, with a token that Ghost would sign."""
        self.queries += 1  # a limit of its own, so that no response comes from the cache
        expiry = int(time.time()) + 600  # noqa: TID251 - the service compares it with its own clock
        token = sign(claims(fixed({"site_uuid": SITE}), exp=expiry), self.variables["TINYBIRD_ADMIN_TOKEN"])
        response = requests.get(
            f"{self.blog}/.ghost/analytics/v0/pipes/api_top_pages.json?site_uuid={SITE}&limit={100 + self.queries}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert response.status_code == 200, response.text
        return sum(row["visits"] for row in response.json()["data"])


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], directory: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=directory, env={"PATH": os.defpath, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


@contextlib.contextmanager
def started_unit(unit: Path) -> Iterator[None]:
    """Start a unit's command as systemd does, and wait for its notification that it is ready."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert settings["Type"] == "notify"
    address = unit.with_suffix(".notify")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notifications:
        notifications.bind(str(address))
        notifications.settimeout(30)
        command = shlex.split(settings["ExecStart"])
        with running(command, Path(settings["WorkingDirectory"]), NOTIFY_SOCKET=str(address)):
            assert b"READY=1" in notifications.recv(1024)
            yield


def verify(units: list[Path]) -> None:
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        ours = [line for line in done.stderr.splitlines() if "traffic-analytics" in line]
        assert (done.returncode, ours) == (0, [])


def test_systemd_units_with_the_store_count_a_hit(wheel: Path, tmp_path: Path) -> None:
    installation = Installation(wheel, tmp_path / "app", "--target=store", "--runs=systemd")
    output = installation.setup()
    verify(installation.units())

    with contextlib.ExitStack() as stack:
        for unit in installation.units():
            stack.enter_context(started_unit(unit))
        stack.enter_context(installation.nginx())
        assert [installation.post_hit(address).status_code for address in CLAIMED] == [202, 202]
        wait_until(lambda: installation.visits() >= 1)
        assert installation.visits() == 1
        assert "unchanged" in installation.setup()
        report = installation.doctor()
        assert report["ok"], report

    assert not [name for name in ("TRACKER", "ADMIN") if installation.variables[f"TINYBIRD_{name}_TOKEN"] in output]
    assert "page_hit" not in (installation.directory / "nginx" / "access.log").read_text()


def test_a_systemd_unit_with_tinybird_forwards_a_hit(wheel: Path, tmp_path: Path) -> None:
    tokens = {"TINYBIRD_TRACKER_TOKEN": "p.tracker", "TINYBIRD_ADMIN_TOKEN": "p.admin"}
    options = ["--target=tinybird", "--runs=systemd", "--workspace=w"]
    with Upstream() as upstream, contextlib.ExitStack() as stack:
        installation = Installation(wheel, tmp_path / "app", *options, f"--tinybird-url={upstream.url}", **tokens)
        installation.setup()
        verify(installation.units())
        (unit,) = installation.units()
        stack.enter_context(started_unit(unit))
        stack.enter_context(installation.nginx())
        assert installation.post_hit().status_code == 202

    (event,) = upstream.events
    assert event["payload"]["pathname"] == "/about/"


def test_a_procfile_with_the_store_counts_a_hit(wheel: Path, tmp_path: Path) -> None:
    installation = Installation(wheel, tmp_path / "app", "--target=store", "--runs=procfile")
    installation.setup()
    honcho = [sys.executable, "-m", "honcho", "start"]
    path = f"{installation.commands}:{os.defpath}"
    with running(honcho, installation.directory, PATH=path, PORT=str(installation.port)), installation.nginx():
        wait_until(lambda: is_open(installation.port) and is_open(installation.store_port), 30)
        assert installation.post_hit().status_code == 202
        wait_until(lambda: installation.visits() == 1)


def test_a_worker_without_its_packages_names_the_file_that_has_them(wheel: Path, tmp_path: Path) -> None:
    settings = {
        "PROXY_TARGET": "http://127.0.0.1:9",
        "TINYBIRD_TRACKER_TOKEN": "t",
        "WORKER_MODE": "true",
        "GOOGLE_CLOUD_PROJECT": "project",
        "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": "hits",
    }
    done = subprocess.run(
        [wheel / "bin" / "traffic-analytics", "serve"],
        cwd=tmp_path,
        env={"PATH": os.defpath, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "WORKER_MODE: needs google-cloud-pubsub (extra gcp): pip install -r requirements-full.txt" in done.stderr


def ghost_docker(directory: Path) -> Any:
    """Write the parts of ghost-docker's compose.yml that the override changes."""
    (directory / "compose.yml").write_text(
        json.dumps(
            {
                "services": {
                    "ghost": {
                        "image": "ghost:6-alpine",
                        "environment": {"tinybird__stats__endpoint": "https://api.tinybird.co"},
                        "networks": ["ghost_network"],
                    },
                    "traffic-analytics": {
                        "image": "ghost/traffic-analytics",
                        "profiles": ["analytics"],
                        "volumes": ["traffic_analytics_data:/data"],
                        "environment": {
                            "SALT_STORE_FILE_PATH": "/data/salts.json",
                            "PROXY_TARGET": "https://x.example",
                        },
                        "networks": ["ghost_network"],
                    },
                },
                "volumes": {"traffic_analytics_data": {}},
                "networks": {"ghost_network": {}},
            }
        )
    )


@pytest.mark.parametrize("target", ["store", "tinybird"])
def test_docker_compose_reads_the_override(target: str, wheel: Path, tmp_path: Path) -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs docker compose")
    directory = tmp_path / "ghost-docker"
    directory.mkdir()
    (directory / ".env").write_text("DOMAIN=blog.example\nCOMPOSE_PROFILES=analytics\n")
    ghost_docker(directory)
    tokens = {"TINYBIRD_TRACKER_TOKEN": "p.tracker", "TINYBIRD_ADMIN_TOKEN": "p.admin"}
    options = [f"--target={target}", "--runs=ghost-docker", "--workspace=w", "--add"]
    installation = Installation(wheel, directory, *options, **(tokens if target == "tinybird" else {}))
    installation.setup()

    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    service = services["traffic-analytics"]
    assert service["image"] == "traffic-analytics"
    assert [volume["source"] for volume in service["volumes"]] == ["traffic_analytics_sqlite"]
    assert service["environment"]["TINYBIRD_ADMIN_TOKEN"] == installation.variables["TINYBIRD_ADMIN_TOKEN"]
    assert services["ghost"]["environment"]["tinybird__stats__endpoint"] == "https://blog.example/.ghost/analytics"
    assert ("analytics-store" in services) == (target == "store")
