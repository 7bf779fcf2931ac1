"""Read and check the settings at the start of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import PUBLISHES, TARGET, TOKEN, WORKS
from tests.support.processes import PATIENCE, ROOT, free_port, gunicorn, wait_until
from traffic_analytics import __version__
from traffic_analytics.runtime.env_values import read_environment
from traffic_analytics.runtime.worker_count import WorkerCount, choose_worker_count, read_limits
from traffic_analytics.settings import Settings

UUIDS = ("940b73e9-4952-4752-b23d-9486f999c47e", "4c1dd2c0-63b3-4d35-ad1b-9b40e15f9f0e")


def test_a_file_completes_the_environment_and_never_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "PROXY_TARGET=http://localhost\n# PORT=1\nTHREADS='7'\nBUILD_LABEL=file\nLOG_LEVEL\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILD_LABEL", "environment")
    for name in ("PROXY_TARGET", "THREADS", "PORT", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)

    settings = Settings.from_env(read_environment())

    assert (settings.proxy_target, settings.threads, settings.port) == ("http://localhost", 7, 3000)
    assert settings.build_label == "environment"


def test_a_file_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("THREADS=7")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("THREADS", raising=False)

    assert "THREADS" not in read_environment()


MISTAKES = {"PORT": "high", "HMAC_SECRET": "hush hush", "TRUST_PROXY": "maybe"}


@pytest.mark.parametrize("arguments", [["--check-config"], []], ids=["check", "start"])
def test_gunicorn_does_not_start_with_mistakes_and_prints_all_of_them(arguments: list[str], tmp_path: Path) -> None:
    assert gunicorn(tmp_path, *arguments, **MISTAKES).wait(PATIENCE) not in (0, None)

    output = (tmp_path / "output").read_text()
    for name in [*MISTAKES, "PROXY_TARGET"]:
        assert f"{name}: must be" in output
    assert "hush" not in output
    assert "Traceback" not in output


def test_gunicorn_accepts_good_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PROXY_TARGET={TARGET}\nTINYBIRD_TRACKER_TOKEN=p.token\n")

    assert gunicorn(tmp_path, "--check-config").wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, choose_worker_count(len(os.sched_getaffinity(0)), read_limits())),
        ({"WEB_CONCURRENCY": "3"}, WorkerCount(3, "WEB_CONCURRENCY is set")),
        ({"SALT_STORE_TYPE": "memory"}, WorkerCount(1, "the salts are in memory")),
    ],
    ids=["by default", "given", "one process"],
)
def test_the_start_logs_the_number_of_worker_processes_and_the_reason(
    tmp_path: Path, environment: dict[str, str], chosen: WorkerCount
) -> None:
    environment |= TOKEN | {"PROXY_TARGET": TARGET, "PORT": str(free_port()), "DATA_DIR": str(tmp_path / "data")}
    process = gunicorn(tmp_path, **environment)
    try:
        wait_until(lambda: (tmp_path / "output").read_text().count("Booting worker") == chosen.number)
    finally:
        process.terminate()
        process.wait(PATIENCE)

    records = [json.loads(line) for line in (tmp_path / "output").read_text().splitlines()]
    (record,) = [each for each in records if each["event"] == "WorkersChosen"]
    assert record["workers"] == chosen.number
    assert chosen.reason in record["message"]


def test_gunicorn_does_not_start_on_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "salts").write_text('{"salts": "of another service"}')
    environment = {"PROXY_TARGET": TARGET, "SALT_STORE_FILE_PATH": str(tmp_path / "salts"), "PORT": str(free_port())}

    assert gunicorn(tmp_path, **environment | TOKEN).wait(PATIENCE) not in (0, None)

    output = (tmp_path / "output").read_text()
    assert "cannot be used as a database" in output
    assert "Traceback" not in output
    assert (tmp_path / "salts").read_text() == '{"salts": "of another service"}'


def test_the_application_alone_does_not_start_with_mistakes_either(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import app"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **MISTAKES},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert all(f"{name}: must be" in done.stderr for name in [*MISTAKES, "PROXY_TARGET"])
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"mode": "service", "target": "api.tinybird.example", "delivery": "direct", "sites": "any"}),
        (PUBLISHES | {"LOG_FORMAT": "json"}, {"mode": "service", "target": "hits", "delivery": "pubsub"}),
        (WORKS | {"LOG_FORMAT": "json"}, {"mode": "worker", "target": "api.tinybird.example"}),
        ({"DELIVERY": "spool", "ALLOWED_SITES": ",".join(UUIDS)}, {"delivery": "spool", "sites": 2}),
    ],
    ids=["direct", "publisher", "worker", "spool"],
)
def test_the_first_record_names_the_settings(
    environment: dict[str, str], expected: dict[str, Any], tmp_path: Path
) -> None:
    environment = TOKEN | {"PROXY_TARGET": TARGET, "DATA_DIR": "data"} | environment
    assert gunicorn(tmp_path, "--check-config", **environment).wait(PATIENCE) == 0

    record = json.loads((tmp_path / "output").read_text().splitlines()[0])

    assert record["event"] == "ServiceStarts"
    assert record | expected | {"version": __version__, "data_dir": str(tmp_path / "data")} == record
    assert all(str(value) in record["message"] for value in expected.values())
    assert TOKEN["TINYBIRD_TRACKER_TOKEN"] not in (tmp_path / "output").read_text()
