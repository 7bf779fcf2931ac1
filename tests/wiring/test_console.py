"""The console scripts offer commands with and without valid settings."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import PATIENCE, ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=directory,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


CONSOLES = [("traffic_analytics",), ("flask", "--app", "app")]


@pytest.mark.parametrize("console", CONSOLES, ids=" ".join)
def test_help_lists_the_commands_that_need_no_settings_where_there_are_none(
    console: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(tmp_path, *console, "--help")

    assert done.returncode == 0, done.stderr
    assert "Start the service" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("console", CONSOLES, ids=" ".join)
def test_a_command_of_the_app_reports_the_mistakes_in_the_settings(console: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, *console, "check")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: Traffic Analytics cannot start, the settings hold mistakes:\n")
    assert "PROXY_TARGET: must be set" in done.stderr
    assert f"There is no .env in {tmp_path}. If it is elsewhere, run the command there." in done.stderr

    (tmp_path / ".env").touch()
    assert "There is no .env" not in run(tmp_path, *console, "check").stderr


@pytest.mark.parametrize("console", CONSOLES, ids=" ".join)
def test_setup_needs_no_settings_and_its_settings_are_valid(console: tuple[str, ...], tmp_path: Path) -> None:
    options = ["--blog=https://blog.example", "--target=store", "--runs=procfile", "--yes"]
    done = run(tmp_path, *console, "setup", *options)

    assert done.returncode == 0, done.stderr
    assert run(tmp_path, *console, "spool", "status").returncode == 0
    assert run(tmp_path, "analytics_store", "serve", "--check-config").returncode == 0


@pytest.mark.parametrize("console", CONSOLES, ids=" ".join)
def test_the_commands_of_the_app_run_in_any_directory(console: tuple[str, ...], tmp_path: Path) -> None:
    settings = {"PROXY_TARGET": "http://127.0.0.1:9", "TINYBIRD_TRACKER_TOKEN": "t"}
    help_text = run(tmp_path, *console, "--help", **settings)
    status = run(tmp_path, *console, "spool", "status", **settings)

    assert {"check", "serve", "spool"} <= {line.split()[0] for line in help_text.stdout.splitlines() if line.strip()}
    assert (status.returncode, status.stdout.splitlines()[0]) == (0, "waiting    0")


@pytest.mark.parametrize(
    ("package", "settings"),
    [("traffic_analytics", {"PROXY_TARGET": "http://127.0.0.1:9"}), ("analytics_store", {})],
    ids=["service", "store"],
)
def test_serve_starts_gunicorn_with_the_configuration_of_the_package(
    package: str, settings: dict[str, str], tmp_path: Path
) -> None:
    done = run(tmp_path, package, "serve", "--check-config", **settings)
    wrong = run(tmp_path, package, "serve", "--check-config", LOG_LEVEL="loud")

    assert (done.returncode, done.stderr) == (0, "")
    assert wrong.returncode == 1
    assert "LOG_LEVEL: must be one of" in wrong.stderr


def test_the_service_imports_no_command_that_it_does_not_run(tmp_path: Path) -> None:
    program = "import sys, app; assert not [name for name in sys.modules if name.startswith('traffic_analytics.setup')]"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PROXY_TARGET": "http://127.0.0.1:9", "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_store_run_in_any_directory(tmp_path: Path) -> None:
    (tmp_path / "data" / "store").mkdir(parents=True)
    done = run(tmp_path, "analytics_store", "info", STORE_BIND=f"unix:{tmp_path}/socket")

    assert done.returncode == 0, done.stderr
    assert "bytes_on_disk: " in done.stdout
