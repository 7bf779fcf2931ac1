"""Report whether hits pass through the service, each fact with a verdict and, if needed, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Health:
    """Collect the facts at each request."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def __call__(self) -> dict[str, object]:
        """Return the facts."""
        return {"facts": []}
