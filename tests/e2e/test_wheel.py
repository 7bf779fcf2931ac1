"""The wheel, installed into an environment of its own, runs service and store from an empty directory."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Upstream, free_port, hit, read_answer, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def serving(wheel: Path, directory: Path, port: int, script: str, **variables: str) -> Iterator[None]:
    """Run `serve` of a console script in this directory; yield as soon as /health answers."""
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            [wheel / "bin" / script, "serve"],
            cwd=directory,
            env={"PATH": os.defpath, "HOME": str(directory), **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def is_healthy() -> bool:
        assert process.poll() is None, (directory / "output").read_text()
        with contextlib.suppress(OSError):
            return request(port, "/health") == 200
        return False

    try:
        wait_until(is_healthy)
        yield
    finally:
        process.terminate()
        process.wait(30)


def request(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


def test_the_service_enriches_hits_with_the_data_files_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    port = free_port()
    referrer = {"url": "https://groups.google.com", "source": None, "medium": None}
    variables = {"PORT": str(port), "LISTEN_HOST": "127.0.0.1", "TINYBIRD_TRACKER_TOKEN": "t"}
    with (
        Upstream() as upstream,
        serving(wheel, tmp_path, port, "traffic-analytics", PROXY_TARGET=upstream.url, **variables),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, sock.makefile("rb") as stream:
            sock.sendall(hit(parsedReferrer=referrer))
            assert read_answer(stream).status == 202
        wait_until(lambda: upstream.events)

    assert upstream.events[0]["payload"]["referrerSource"] == "Google"


def test_the_store_answers_queries_with_the_sql_files_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = {"STORE_BIND": f"127.0.0.1:{port}", "STORE_DATA_DIR": str(tmp_path / "store"), "STORE_ADMIN_TOKEN": "t"}
    with serving(wheel, tmp_path, port, "analytics-store", **variables):
        pipe = "/v0/pipes/api_kpis.json?site_uuid=c431ed34-e1de-4c2a-a9be-bc96c06dff2e"
        assert request(port, pipe, Authorization="Bearer t") == 200


def test_the_dashboard_is_served_with_the_files_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = {"PORT": str(port), "LISTEN_HOST": "127.0.0.1", "PROXY_TARGET": "http://127.0.0.1:9"}
    variables |= {"DASHBOARD": "true", "STATS_TARGET": "http://127.0.0.1:9", "TINYBIRD_ADMIN_TOKEN": "a"}
    variables |= {"TINYBIRD_TRACKER_TOKEN": "t"}
    files = ("main.js", "dashboard.css", "vendor/uplot/uPlot.esm.js", "vendor/world-map/countries.json")
    with serving(wheel, tmp_path, port, "traffic-analytics", **variables):
        assert request(port, "/dashboard/") == 200
        assert [request(port, f"/dashboard/static/any/{file}") for file in files] == [200] * len(files)

    packages = next(wheel.glob("lib/python3*/site-packages"))
    vendor = packages / "traffic_analytics" / "dashboard" / "static" / "vendor"
    assert all((folder / "LICENSE").exists() for folder in vendor.iterdir() if folder.is_dir())


def test_type_checkers_find_both_packages_typed(wheel: Path) -> None:
    typed = {file.parent.name for file in wheel.glob("lib/python3*/site-packages/*/py.typed")}

    assert {"traffic_analytics", "analytics_store"} <= typed
