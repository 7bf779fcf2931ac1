"""Count the hits of one process in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.hits.outcomes import counted_as

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER_SITES = ""
"""Site of hits that are not counted for a site of their own."""
LARGEST = 20_000
"""Counts that a process holds until they are written; further sites are counted together."""
_UUID_LENGTH = 36


class Kind(NamedTuple):
    """Kind of hit: its site, as sent, its outcome, and the rule that decided it."""

    site: str
    outcome: str
    rule: str


class Tally:
    """Numbers of hits by kind, since they were last taken; an `OnOutcome` of hits.outcomes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, str, str], int] = {}

    def __call__(
        self,
        outcome: str,
        data_source: str = "",  # noqa: ARG002
        error: Exception | None = None,
        *,
        rule: str = "",
        site: str = "",
    ) -> None:
        """Count one hit."""
        kind = (site if len(site) == _UUID_LENGTH else OTHER_SITES, *counted_as(outcome, error, rule))
        with self._lock:
            number = self._numbers.get(kind)
            if number is None and len(self._numbers) >= LARGEST:
                kind = (OTHER_SITES, *kind[1:])
                number = self._numbers.get(kind)
            self._numbers[kind] = (number or 0) + 1

    def take(self) -> dict[Kind, int]:
        """Return the numbers, and begin anew."""
        with self._lock:
            numbers, self._numbers = self._numbers, {}
        return {Kind(*kind): number for kind, number in numbers.items()}

    def put_back(self, numbers: Mapping[Kind, int]) -> None:
        """Add numbers that were taken, but not written."""
        with self._lock:
            for kind, number in numbers.items():
                self._numbers[kind] = self._numbers.get(kind, 0) + number
