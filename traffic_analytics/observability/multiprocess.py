"""Share the counts of all worker processes through files, one set for each slot of gunicorn's workers.

prometheus-client's own recipe names the files by process id and never deletes a dead worker's counts. Each replaced
worker then leaves 28 KiB and costs each scrape 0.2 ms; a full /dev/shm ends new workers with SIGBUS. Any other process
with the same environment, such as the command line, would add its zeros. Here a worker continues the files of its
slot: counts survive it, and the number of files stays that of the slots. Decision record 0011 has the measurement.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue, MutexValue

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from prometheus_client.metrics_core import Metric

_log = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_MASTER = "master"
_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made in it; writes there wear no disk

_directory: Path | None = None
_slot = _MASTER


def prepare_directory() -> None:
    """Choose and empty the directory for this process and its children; a reload keeps it, with its counts.

    PROMETHEUS_MULTIPROC_DIR names one. Without it a temporary directory is made, and removed when this process ends.
    """
    global _directory
    if _directory is not None:
        return
    named = os.environ.get(VARIABLE)  # noqa: TID251 - prometheus-client's own variable
    if named:
        _directory = Path(named)
        _directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in _directory.glob("*.db"):
            old.unlink()
    else:
        parent = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
        _directory = Path(tempfile.mkdtemp(prefix="traffic-analytics-metrics-", dir=parent))
        atexit.register(_remove, _directory, os.getpid())
    os.environ[VARIABLE] = str(_directory)  # noqa: TID251 - prometheus-client reads it whenever it opens a file


def free_slot(used: Container[int | None]) -> int:
    """Return the lowest slot that no living worker uses."""
    return next(slot for slot in count() if slot not in used)


def use_slot(slot: int) -> None:
    """Count in the files of a slot from now on; called in the worker, after the fork. Raises OSError."""
    global _slot
    if _directory is not None:
        _directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # a cleaner of temporary files may have deleted it
        for file in _directory.glob(f"*_{slot}.db"):
            if _is_damaged(file):
                file.unlink()
                _log_damage(file, "deleted")
    drop_live_gauges(slot)
    _slot = str(slot)


def drop_live_gauges(slot: int | None) -> None:
    """Delete the gauges of a slot whose worker has ended. Counts stay."""
    if _directory is not None and slot is not None:
        with contextlib.suppress(OSError):  # an error here would end the master
            for file in _directory.glob(f"gauge_live*_{slot}.db"):
                file.unlink(missing_ok=True)


def value_class() -> type[MutexValue]:
    """Return the class of all values that are made from now on: in files if there is a directory, else in memory."""
    return MutexValue if _directory is None else MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]


def exported_registry(own: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to export: that of all processes if they share a directory, else the process's own."""
    if _directory is None:
        return own
    registry = CollectorRegistry()
    registry.register(CountFiles(_directory))
    return registry


class CountFiles(Collector):
    """Add up the counts of all processes. A damaged file is skipped and logged once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._logged: set[Path] = set()

    def collect(self) -> Iterable[Metric]:
        """Return the sums."""
        # The master's files are left out: its zeros would be the minimum of each gauge.
        files = [file for file in self._directory.glob("*_[0-9]*.db") if _size(file)]  # a new file is empty at first
        try:
            return _merge(files)
        except Exception:  # noqa: BLE001 - damage has no error class of its own
            damaged = {file for file in files if _is_damaged(file)}
            for file in damaged - self._logged:
                _log_damage(file, "skipped")
            self._logged |= damaged
            return _merge([file for file in files if file not in damaged and _size(file)])


def _merge(files: list[Path]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge([str(file) for file in files])  # type: ignore[no-untyped-call]
    return merged


def _is_damaged(file: Path) -> bool:
    try:
        if _size(file):
            _merge([file])
    except FileNotFoundError:
        return False
    except Exception:  # noqa: BLE001 - as above
        return True
    return False


def _log_damage(file: Path, action: str) -> None:
    _log.error("count file %s is damaged and was %s", file.name, action, extra={"event": "MetricsDamaged"})


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # a worker that has just ended
        return 0


def _remove(directory: Path, owner: int) -> None:
    if os.getpid() == owner:  # forked processes inherit the exit handler
        shutil.rmtree(directory, ignore_errors=True)
