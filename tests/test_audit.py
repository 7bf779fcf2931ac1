"""The audit of packages fails on a vulnerability, and never passes without a word."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
GOOD = {"name": "flask", "version": "3.1.0", "vulns": []}
BAD = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.11.3"]}]}
UNFIXED = {"name": "idna", "version": "1.0", "vulns": [{"id": "GHSA-2", "fix_versions": []}]}
UNKNOWN = {"name": "ada-url", "skip_reason": "Dependency not found on PyPI"}


def audit(directory: Path, stdout: str, status: int, required: str) -> subprocess.CompletedProcess[str]:
    """Run the audit with a uv that writes `stdout` and a line of errors."""
    (directory / ".ci").mkdir()
    (directory / ".venv" / "bin").mkdir(parents=True)
    uv = directory / ".venv" / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\ncat <<'END'\n{stdout}\nEND\necho 'cannot connect' >&2\nexit {status}\n")
    uv.chmod(0o755)
    script = shutil.copy(PROJECT / ".ci" / "audit", directory / ".ci")
    return subprocess.run(
        [sys.executable, script],
        env={"AUDIT_REQUIRED": required, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("packages", "status", "expected", "if_required", "words"),
    [
        ([GOOD], 0, 0, 0, "1 packages were audited"),
        ([GOOD, BAD], 1, 1, 1, "jinja2 2.4.1: PYSEC-1, fixed in 2.11.3"),
        ([UNFIXED], 1, 1, 1, "idna 1.0: GHSA-2, fixed in no version"),
        ([UNKNOWN, BAD], 1, 1, 1, "PYSEC-1"),
        ([GOOD, UNKNOWN], 0, 0, 1, "not audited, for lack of data: 1 of 2"),
        ([], 0, 0, 1, "not audited: "),
        (None, 1, 0, 1, "not audited: cannot connect"),
    ],
    ids=["clean", "vulnerable", "without a fix", "some unknown", "one unknown", "nothing", "no network"],
)
@pytest.mark.parametrize("required", [True, False])
def test_the_audit_fails_on_a_vulnerability_and_names_what_it_did_not_audit(
    tmp_path: Path,
    packages: list[object] | None,
    status: int,
    expected: int,
    if_required: int,
    words: str,
    required: bool,
) -> None:
    output = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})

    done = audit(tmp_path, output, status, str(required).lower())

    assert done.returncode == (if_required if required else expected), done.stderr
    assert words in done.stdout


def test_an_audit_that_cannot_run_is_named(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(PROJECT / ".ci" / "audit", tmp_path / ".ci")

    done = subprocess.run([sys.executable, script], env={}, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0
    assert "not audited: " in done.stdout
