"""A release's notes come from the changelog, and only for the version in the code."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
CHANGELOG = """# Changelog

## Unreleased

- Later.

## 1.2.0 - 2026-02-28

- New.

### Dependencies

- One.

## [1.1.0] - 2026-01-31

- Old.

## 1.0.0

- Undated.
"""


def release_notes(directory: Path, in_code: str, requested: str) -> subprocess.CompletedProcess[str]:
    (directory / ".ci").mkdir()
    (directory / "traffic_analytics").mkdir()
    (directory / "CHANGELOG.md").write_text(CHANGELOG)
    (directory / "traffic_analytics" / "__init__.py").write_text(f'"""Doc."""\n\n__version__ = "{in_code}"\n')
    script = shutil.copy(PROJECT / ".ci" / "release-notes", directory / ".ci")
    return subprocess.run([script, requested], capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    ("version", "notes"), [("1.2.0", "\n- New.\n\n### Dependencies\n\n- One.\n\n"), ("1.1.0", "\n- Old.\n\n")]
)
def test_the_notes_of_a_release_are_its_dated_section_of_the_changelog(
    version: str, notes: str, tmp_path: Path
) -> None:
    done = release_notes(tmp_path, version, version)

    assert (done.returncode, done.stdout, done.stderr) == (0, notes, "")


@pytest.mark.parametrize(
    ("in_code", "requested", "reason"),
    [
        ("1.2.0", "1.1.0", "has another version than 1.1.0"),
        ("1.0.0", "1.0.0", "has no dated section of 1.0.0"),
        ("1.3.0", "1.3.0", "has no dated section of 1.3.0"),
    ],
)
def test_a_version_without_code_or_dated_section_is_not_released(
    in_code: str, requested: str, reason: str, tmp_path: Path
) -> None:
    done = release_notes(tmp_path, in_code, requested)

    assert done.returncode == 1
    assert reason in done.stderr
