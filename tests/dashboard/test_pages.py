"""Pages and files of the dashboard, and the paths below which they are served."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.dashboard import KEY, ON, OWN_PAGE, Dashboard
from tests.support.processes import PATIENCE, ROOT
from traffic_analytics.dashboard.assets import Assets

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 150_000
"""Size of all that a browser loads, compressed, in bytes."""


def test_the_page_names_files_that_exist_and_may_be_cached_for_good(dashboard: Dashboard) -> None:
    dashboard.log_in()
    page = dashboard.get("").text

    files = re.findall(r'(?:href|src)="(static/[^"]+)"', page)

    assert len(files) > 10
    for file in files:
        response = dashboard.get(file)
        assert (file, response.status_code) == (file, HTTPStatus.OK)
        assert "immutable" in response.headers["Cache-Control"]
    assert dashboard.get("static/old/main.js").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("file", ["nowhere.js", "../routes.py", "jsconfig.json/", "vendor/uplot/uPlot.esm.d.ts", ""])
def test_there_are_no_other_files(dashboard: Dashboard, file: str) -> None:
    assert dashboard.get(f"static/{Assets().version}/{file}").status_code == HTTPStatus.NOT_FOUND


def test_files_are_sent_compressed_to_browsers_that_accept_it(dashboard: Dashboard) -> None:
    path = f"static/{Assets().version}/dashboard.css"

    plain, compressed = dashboard.get(path), dashboard.get(path, **{"Accept-Encoding": "gzip, br"})

    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Vary"] == compressed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(compressed.data) == plain.data


def test_all_files_together_are_small(dashboard: Dashboard) -> None:
    dashboard.log_in()
    page = gzip.compress(dashboard.get("").data)

    assert len(page) + sum(len(each.compressed) for each in Assets().files.values()) < LARGEST


def test_vendored_files_have_a_licence_and_a_version() -> None:
    vendor = ROOT / "traffic_analytics" / "dashboard" / "static" / "vendor"
    versions = json.loads((vendor / "versions.json").read_text(encoding="utf-8"))
    pinned = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]

    assert all((folder / "LICENSE").exists() for folder in vendor.iterdir() if folder.is_dir())
    assert versions == {name: pinned[name] for name in versions}
    assert set(versions) == {"uplot", "world-atlas"}


@pytest.mark.parametrize("path", ["", "token.json", "login", "share/x/", f"static/{Assets().version}/main.js", "none"])
def test_no_response_lets_another_origin_or_a_script_of_one_in(dashboard: Dashboard, path: str) -> None:
    for response in (dashboard.get(path), dashboard.client.options(f"/dashboard/{path}")):
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert set(re.findall(r"-src ([^;]+)", policy)) == {"'none'", "'self'"}
        assert not [name for name, _ in response.headers if name.lower().startswith("access-control-")]
        assert response.headers["Referrer-Policy"] == "same-origin"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_pages_and_tokens_are_cached_nowhere(dashboard: Dashboard) -> None:
    dashboard.log_in()

    for path in ("", "token.json", f"token.json?site={SITE}", "health.json"):
        assert dashboard.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
def test_it_is_served_below_ghosts_prefix_too(dashboard: Dashboard, prefix: str) -> None:
    client = dashboard.client
    redirect = client.get(f"{prefix}/dashboard")
    assert (redirect.status_code, redirect.headers["Location"]) == (303, "dashboard/")

    assert client.post(f"{prefix}/dashboard/login", data={"key": KEY}, headers=OWN_PAGE).status_code == 303

    page = client.get(f"{prefix}/dashboard/")
    assert "?view=health" in page.text
    assert not re.findall(r'(?:href|src|action)="(?:/|[a-z]+:)', page.text)
    assert client.get(f"{prefix}/dashboard/token.json").status_code == HTTPStatus.OK


def test_unknown_paths_and_mistakes_are_explained(dashboard: Dashboard) -> None:
    response = dashboard.get("nowhere")

    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.mimetype == "text/html"
    assert dashboard.get("token.json").get_json()["error"]


def test_a_form_of_unusual_size_is_refused(dashboard: Dashboard) -> None:
    response = dashboard.client.post("/dashboard/login", data={"key": "k" * 10_000}, headers=OWN_PAGE)

    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.parametrize(("is_on", "found"), [("true", True), ("false", False)])
def test_without_dashboard_no_module_of_it_is_imported(tmp_path: Path, is_on: str, found: bool) -> None:
    program = """
import os, sys
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app
app = create_app(Settings.from_env(dict(os.environ)))
print(app.test_client().get("/dashboard/").status_code)
print(any("dashboard" in name for name in sys.modules))
"""
    environment = {
        **ON,
        "DASHBOARD": is_on,
        "LISTEN_HOST": "127.0.0.1",
        "PROXY_TARGET": "http://127.0.0.1:9",
        "TINYBIRD_TRACKER_TOKEN": "p.token",
        "DATA_DIR": str(tmp_path),
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
    }

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )

    assert done.stdout.split() == (["200", "True"] if found else ["404", "False"])
