"""Restrict the store's files to its own user."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

_log = logging.getLogger(__name__)

UMASK = 0o077
"""Mode bits that new files and directories do not get: a file is 0600, a directory 0700."""


def restrict_new_files() -> None:
    """Restrict everything that this process creates from now on; DuckDB names no mode for its files."""
    os.umask(UMASK)


def narrow(paths: Iterable[Path]) -> None:
    """Remove other users' rights from files and directories, and log the changes."""
    narrowed = []
    for path in paths:
        mode = path.lstat().st_mode
        if mode & UMASK and not path.is_symlink():
            try:
                path.chmod(mode & ~UMASK & 0o7777)
            except PermissionError:
                # It belongs to another user.
                _log.warning(
                    "other users may read files of the store", extra={"event": "StoreFilesWide", "path": str(path)}
                )
            else:
                narrowed.append(str(path))
    if narrowed:
        extra = {"event": "StoreFilesNarrowed", "paths": narrowed}
        _log.warning("other users could read files of the store, and no longer can", extra=extra)
