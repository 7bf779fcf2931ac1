"""Find misspelled names of variables, which would leave a default in force in silence."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

SHORTEST_NAME = 8
"""Shortest name whose misspellings are recognised, in characters; shorter ones are near those of other programs."""
WIDEST_SLIP = 2
"""Most characters by which a misspelled name differs, all in one place: PROXY_TARGTE, PROXYTARGET."""

OTHER_PROGRAMS = frozenset({"META_DIR", "REDIS_URI"})
"""Names that are near known ones, and that other programs use."""


def misspelled(given: Set[str], known: Set[str]) -> Iterator[str]:
    """Yield a mistake for each given name that is nearly a known one which is not given.

    The environment also holds variables of other programs. One of them that is near a known name stops no start where
    the known variable is set too.
    """
    missing = sorted(name for name in known - given if len(name) >= SHORTEST_NAME)
    for name in sorted(given - known - OTHER_PROGRAMS):
        meant = next((each for each in missing if _differs_little(name.upper(), each)), None)
        if meant is not None:
            yield f"{name}: is not a known variable; rename it to {meant}, or set {meant} too"


def _differs_little(name: str, known: str) -> bool:
    start = _count_equal(name, known)
    name, known = name[start:], known[start:]
    return max(len(name), len(known)) - _count_equal(reversed(name), reversed(known)) <= WIDEST_SLIP


def _count_equal(left: Iterable[str], right: Iterable[str]) -> int:
    """Count the characters that two names have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
