from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_tinybird import FakeTinybird
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeTinybird]:
    fake = FakeTinybird()
    yield fake
    fake.refuse()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and wheel, and install the wheel with the locked versions; return the environment's directory."""
    directory = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--outdir", directory / "dist")
    (wheel,) = (directory / "dist").glob("*.whl")
    uv: list[str | Path] = [sys.executable, "-m", "uv"]
    call(*uv, "venv", "--python", sys.executable, directory / "venv")
    install = [*uv, "pip", "install", "--python", directory / "venv", "--no-verify-hashes"]
    call(*install, "--constraint", ROOT / "requirements.txt", f"{wheel}[store]")
    return directory / "venv"


def call(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
