"""A body longer than any hit's is waited for only if its request's head says who sends it, and only a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class LargeBodies:
    """What the worker is told of them. Those that it does not wait for are handed on unread."""

    wanted: Callable[[bytes], bool]
    """Whether a request with this head (request line and headers) may have one."""
    limit: int
    """Bytes that one may have."""
    most: int
    """How many a process holds at a time, from their first byte to their answer."""
    deadline: float
    """Seconds from the first byte of the body to the last."""
