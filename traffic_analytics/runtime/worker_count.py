"""Choose the number of worker processes by CPUs, by the cgroups' limits (versions 1 and 2) and by an upper bound.

A container sees all CPUs of its machine; its quota and its memory are limits of a cgroup, or of a cgroup around that.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_WORKERS = 8
"""Largest number of worker processes by default.

One serves some 5 000 hits/s on a CPU of its own, in 90 MB; a billion hits a month have a peak of 3 900/s.
"""
WORKER_MEMORY = 128 * 1024 * 1024
"""Memory for each worker process, in bytes: 75 to 90 MB, and room for buffered requests and cached responses."""
_DEFAULT_PERIOD = 100_000
"""Period of a quota that names none, in microseconds."""
_NUMBER = re.compile(r"[0-9]{1,19}")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Limits(NamedTuple):
    """Smallest limits of the cgroups: CPUs, and memory in bytes; None without a limit."""

    cpus: float | None
    memory: int | None


class WorkerCount(NamedTuple):
    """Number of worker processes, and the reason for it."""

    number: int
    reason: str


def choose_worker_count(cpus: int, limits: Limits) -> WorkerCount:
    """Return one worker process for each CPU, or fewer if a limit allows no more, but at least one.

    A part of a CPU counts as one: 1.5 CPUs are used by two processes only.
    """
    counts = [WorkerCount(cpus, "one for each CPU")]
    if limits.cpus is not None:
        counts.append(WorkerCount(math.ceil(limits.cpus), f"the CPU quota is {limits.cpus:g}"))
    if limits.memory is not None:
        reason = f"the memory limit is {limits.memory >> 20} MiB, {WORKER_MEMORY >> 20} for each"
        counts.append(WorkerCount(limits.memory // WORKER_MEMORY, reason))
    counts.append(WorkerCount(MOST_WORKERS, "more only if WEB_CONCURRENCY is set"))
    number, reason = min(counts, key=lambda each: each.number)
    return WorkerCount(max(1, number), reason)


def read_limits(root: Path = Path("/")) -> Limits:
    """Read this process's limits from the files below `root`; a missing or unreadable file sets no limit."""
    return Limits(min(_cpu_quotas(root), default=None), min(_memory_limits(root), default=None))


def _cpu_quotas(root: Path) -> Iterator[float]:
    texts = [_read(each / "cpu.max").partition(" ")[::2] for each in _directories(root, "")]
    texts += [
        (_read(each / "cpu.cfs_quota_us"), _read(each / "cpu.cfs_period_us")) for each in _directories(root, "cpu")
    ]
    for quota, period in texts:
        if microseconds := _number(quota):
            yield microseconds / (_number(period) or _DEFAULT_PERIOD)


def _memory_limits(root: Path) -> Iterator[int]:
    files = [each / "memory.max" for each in _directories(root, "")]
    files += [each / "memory.limit_in_bytes" for each in _directories(root, "memory")]
    yield from filter(None, (_number(_read(each)) for each in files))


def _directories(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directory of this process's cgroup and those of the cgroups around it.

    Version 2 has one hierarchy for all controllers, whose name is empty.
    """
    own = next((path for names, path in _own_cgroups(root) if controller in names), None)
    if own is None:
        return
    for mounted, mountpoint in _mounts(root, controller):
        # Without a cgroup namespace a container has the host's path, and mounts only a part of the hierarchy.
        parts = PurePosixPath(own).parts
        below = len(PurePosixPath(mounted).parts)
        inside = parts[below:] if parts[:below] == PurePosixPath(mounted).parts else ()
        for depth in range(len(inside), -1, -1):
            yield root.joinpath(mountpoint.lstrip("/"), *inside[:depth])


def _own_cgroups(root: Path) -> Iterator[tuple[list[str], str]]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        yield controllers.split(","), path


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str]]:
    """Yield what is mounted of a hierarchy, and where."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        place, _, source = line.partition(" - ")
        fields, (kind, _, options) = place.split(), (*source.split(), "", "", "")[:3]
        is_wanted = (kind == "cgroup" and controller in options.split(",")) if controller else kind == "cgroup2"
        if is_wanted and len(fields) > 4:
            yield _unescape(fields[3]), _unescape(fields[4])


def _unescape(path: str) -> str:
    return _OCTAL.sub(lambda code: chr(int(code[1], 8)), path)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    """Return a number of a cgroup's file; None for `max`, for -1 and for what is no number."""
    return int(text) if _NUMBER.fullmatch(text.strip()) else None
