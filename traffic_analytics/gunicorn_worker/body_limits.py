"""Limit the request bodies that are longer than a hit's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits for large bodies; the worker passes a body beyond them on unread."""

    accepts: Callable[[bytes], bool]
    """Return whether the sender of this head (request line and headers) may send a large body."""
    max_bytes: int
    """Length of one large body, in bytes."""
    max_bodies: int
    """Large bodies that one process holds at a time, from the first byte to the response."""
    deadline: float
    """Time from a large body's first byte to its last, in seconds."""
