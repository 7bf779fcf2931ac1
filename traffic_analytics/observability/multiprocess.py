"""The counts of several processes meet in files: one set for each place in gunicorn's row of workers.

prometheus-client would name the files after process ids, and keep those of the dead for the sake of their counts. Here
a worker goes on with the files of the one whose place it takes: counts never go back, and there are never more files
than places.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MASTER = "master"
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it; what is written there wears no disk

directory: Path | None = None
"""Where the files are; None in a process that keeps its counts to itself."""
_place = MASTER


def prepare() -> None:
    """Choose an empty directory for this process and those that it forks; after a reload it stays the one chosen.

    If the operator names one in PROMETHEUS_MULTIPROC_DIR it is emptied, else one is made and removed at the end.
    """
    global directory
    if directory is not None:
        return
    named = os.environ.get(VARIABLE)  # noqa: TID251 - prometheus-client's own setting, which it looks up there too
    if named:
        directory = Path(named)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_behind in directory.glob("*.db"):
            left_behind.unlink()
    else:
        within = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="traffic-analytics-metrics-", dir=within))
        atexit.register(_remove, directory, os.getpid())
    os.environ[VARIABLE] = str(directory)  # noqa: TID251 - as above


def free_place(taken: Container[int | None]) -> int:
    """Return the first place that no living worker has."""
    return next(place for place in count() if place not in taken)


def take(place: int) -> None:
    """Count in the files of a place from now on; called in the worker, after the fork."""
    global _place
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # whoever cleans up temporary files may have been here
    leave(place)
    _place = str(place)


def place() -> str:
    """Name the files of this process."""
    return _place


def leave(place: int | None) -> None:
    """Forget what was true only while the last worker in a place lived. Counts stay."""
    if directory is not None and place is not None:
        with contextlib.suppress(OSError):  # the master must not fail for it
            for file in directory.glob(f"gauge_live*_{place}.db"):
                file.unlink(missing_ok=True)


def _remove(made: Path, owner: int) -> None:
    if os.getpid() == owner:  # forked processes inherit what is to be done at the end
        shutil.rmtree(made, ignore_errors=True)
