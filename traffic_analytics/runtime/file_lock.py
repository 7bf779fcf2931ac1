"""Lock a file for one process of the machine."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import IO


class FileLock:
    """An advisory lock (flock), which the kernel releases when its holder exits or is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free, and return whether this process holds it. Raises OSError."""
        if self._file is None:
            self._open(fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._file is not None

    def release(self) -> None:
        """Release the lock, if this process holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        self._open(fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def _open(self, operation: int) -> None:
        file = self.path.open("ab")
        try:
            fcntl.flock(file, operation)
        except BlockingIOError:
            file.close()
            return
        self._file = file
