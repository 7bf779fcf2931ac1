"""The environment is read without a change to it, and its values by declared rules."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.processes import PATIENCE, ROOT
from traffic_analytics.runtime.env_values import (
    read_environment,
    read_variables,
    redis_url,
    secret,
    set_variables,
    variable,
    whole_number,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@dataclass(frozen=True)
class Example:
    threads: int = variable("THREADS", whole_number(1, 9), "Threads.", default=2)
    token: str | None = variable("TOKEN", secret, "A token.")
    url: str | None = variable("URL", redis_url, "A URL with a password.")


def test_a_file_completes_the_environment_without_a_change_to_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("OTEL_TRACES_SAMPLER=from-file\nBUILD_LABEL=from-file\nLOG_LEVEL\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILD_LABEL", "from-environment")
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    before = dict(os.environ)  # noqa: TID251 - compared only

    environment = read_environment()

    assert environment["OTEL_TRACES_SAMPLER"] == "from-file"
    assert environment["BUILD_LABEL"] == "from-environment"
    assert environment["LOG_LEVEL"] == ""
    assert dict(os.environ) == before  # noqa: TID251 - compared only


def test_libraries_find_the_variables_of_a_file_in_the_environment_of_the_service(tmp_path: Path) -> None:
    """OpenTelemetry, Google's libraries and requests read their variables from os.environ only."""
    (tmp_path / ".env").write_text("PROXY_TARGET=http://127.0.0.1:9\nOTEL_TRACES_SAMPLER=always_off\n")
    for start in ("import app", f"import runpy; runpy.run_path({str(ROOT / 'gunicorn.conf.py')!r})"):
        done = subprocess.run(
            [sys.executable, "-c", f"{start}\nimport os; print(os.environ['OTEL_TRACES_SAMPLER'])"],
            cwd=tmp_path,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

        assert done.stdout.splitlines()[-1] == "always_off", done.stderr


def test_variables_are_read_by_field_and_every_mistake_is_listed() -> None:
    given = set_variables({"THREADS": " 3 ", "TOKEN": "", "URL": "redis://host/0", "OTHER": "x"})
    assert read_variables(Example, given) == ({"threads": 3, "url": "redis://host/0"}, [])

    values, mistakes = read_variables(Example, {"THREADS": "ten", "TOKEN": "two words", "URL": "two words"})
    assert values == {}
    assert mistakes == [
        "THREADS: must be a whole number from 1 to 9, but is 'ten'",
        "TOKEN: must be printable ASCII without spaces",
        "URL: must be a URL like redis://redis:6379/0 or rediss://user:password@host:6380/0",
    ]


def test_a_representation_of_settings_holds_no_secret() -> None:
    assert repr(Example(threads=3, token="hush", url="redis://:hush@host")) == "Example(threads=3)"
