"""Run functions in fresh processes without threads, which may fork."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = multiprocessing.get_context("forkserver")  # quicker than spawned ones
PROCESSES.set_forkserver_preload(["tests.support.salts"])


def result_of(function: Callable[..., None], *arguments: Any) -> Any:
    """Return what a function puts into the queue that is its last argument."""
    results = PROCESSES.Queue()
    process = PROCESSES.Process(target=function, args=[*arguments, results])
    process.start()
    try:
        return results.get(timeout=30)
    finally:
        process.join(10)
