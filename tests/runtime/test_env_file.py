"""A line of `.env` that sets nothing stops the start: the variable on it may be the store's token."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import COVERAGE, PATIENCE, ROOT
from traffic_analytics.runtime.env_file import read_env_file
from traffic_analytics.runtime.env_values import Environment, mistakes_of_file

if TYPE_CHECKING:
    from pathlib import Path

STARTS = {
    "service": ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")],
    "command of the service": ["-m", "flask", "--app", "app", "check"],
    "store": ["-m", "gunicorn", "-c", str(ROOT / "analytics_store" / "gunicorn.conf.py")],
    "command of the store": ["-m", "flask", "--app", "analytics_store.app", "store", "info"],
    "make run": ["-m", "development"],
}


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nexport B='two words'\n\n# C=3\nD=\nE\n", {"A": "1", "B": "two words", "D": "", "E": ""}),
        ('A="one\ntwo"\nB="q"', {"A": "one\ntwo", "B": "q"}),
        ("A=1\r\nB=${A}2\r\n", {"A": "1", "B": "12"}),
        ("\ufeffA=1", {"A": "1"}),
        ("", {}),
    ],
)
def test_good_lines_are_read(text: str, variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8")

    assert read_env_file(tmp_path / ".env") == (variables, [])


@pytest.mark.parametrize(
    ("text", "line", "variables"),
    [
        ("A=1\nTOKEN hush\nB=2", 2, {"A": "1", "B": "2"}),
        ("A=1\n\n\n  TOKEN hush", 4, {"A": "1"}),
        ('A=1\n\nTOKEN="hush\n', 3, {"A": "1"}),
        ("TOKEN='hush'x\nA=1", 1, {"A": "1"}),
        ('A="1\nTOKEN=hush\nB="2"\nC=3', 1, {"C": "3"}),
        ("=hush", 1, {}),
        ("TOKEN:hush\nA=1", 1, {"TOKEN:hush": "", "A": "1"}),
        ("TO-KEN=hush", 1, {"TO-KEN": "hush"}),
    ],
)
def test_a_line_that_sets_nothing_is_named_by_its_number(
    text: str, line: int, variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(text)

    read, mistakes = read_env_file(tmp_path / ".env")

    assert read == variables
    (mistake,) = mistakes
    assert mistake.startswith(f"{tmp_path / '.env'}: line {line} ")
    assert "hush" not in mistake


def test_a_file_that_cannot_be_read_or_decoded_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "utf-16").write_bytes("TOKEN=hush".encode("utf-16"))
    (tmp_path / "directory").mkdir()

    assert read_env_file(tmp_path / "missing") == ({}, [])
    assert "is not UTF-8 text" in read_env_file(tmp_path / "utf-16")[1][0]
    assert "cannot be read: Is a directory" in read_env_file(tmp_path / "directory")[1][0]
    if os.geteuid():
        (tmp_path / "closed").write_text("TOKEN=hush")
        (tmp_path / "closed").chmod(0)
        assert "cannot be read: Permission denied" in read_env_file(tmp_path / "closed")[1][0]


def test_only_an_environment_completed_by_a_file_has_its_mistakes() -> None:
    assert mistakes_of_file({"A": "1"}) == []
    assert mistakes_of_file(Environment({"A": "1"}, ["no"])) == ["no"]


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_no_start_passes_over_mistakes_in_the_file_and_all_are_listed(start: list[str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STORE_ADMIN_TOKEN hush\nLOG_LEVEL=loud\nTINYBIRD_ADMIN_TOKN=x\n")
    done = subprocess.run(
        [sys.executable, *start],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **COVERAGE},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert "  - .env: line 1 cannot be read" in done.stderr
    assert "  - LOG_LEVEL: must be one of" in done.stderr
    assert "  - TINYBIRD_ADMIN_TOKN: is not a known variable; rename it to TINYBIRD_ADMIN_TOKEN" in done.stderr
    assert not {"hush", "Traceback"} & set(done.stderr.split())
