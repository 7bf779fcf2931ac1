"""Name what the store refuses or cannot do; `web.py` maps each error to its HTTP status."""

import errno
import os
from pathlib import Path

from traffic_analytics.errors import AnalyticsError

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that end when there is more space."""


class StoreError(AnalyticsError):
    """Root of the store's errors; the message may be sent to the client."""


class RequestError(StoreError):
    """The request is malformed and would be refused again."""


class ParameterError(RequestError):
    """A parameter of a pipe is missing or cannot be read."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"parameter {name}: {rule}")
        self.name = name


class DataSourceError(RequestError):
    """The store has no data source of this name."""


class ForbiddenError(StoreError):
    """The token is missing, wrong or expired, or does not grant the request."""


class UnknownPipeError(StoreError):
    """No pipe has this name."""


class TooLargeError(StoreError):
    """The body, unpacked, is over the limit; the client should split it."""


class OverMemoryError(StoreError):
    """The query needs more memory than STORE_MEMORY_MB; a shorter range may need less."""


class FullError(StoreError):
    """The disk is full, or STORE_MAX_MB is reached; nothing of the request was stored, or a part of its rows."""


class RefusedRowsError(StoreError):
    """The engine cannot store one of the rows, and would refuse it again; nothing of the transaction was stored."""


class UnavailableError(StoreError):
    """The database cannot be used now; rows of the request that were accepted before stay."""


def explain_system(file: Path, number: int) -> StoreError:
    """Explain an error of the system on a file or directory of the store."""
    cause = os.strerror(number)
    if number in DISK_IS_FULL:
        return FullError(
            f"the disk of {file} is full ({cause}): free some space; the service keeps its events until then"
        )
    remedy = ": the store's user must be allowed to read and write it" if number in (errno.EACCES, errno.EPERM) else ""
    return UnavailableError(f"{file} cannot be used ({cause}){remedy}")
