"""Write a process's counts to the shared file, every few seconds and at the stop."""

from __future__ import annotations

import logging
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

from traffic_analytics.counts.file import DAYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.counts.file import CountFile
    from traffic_analytics.counts.tally import Tally

_log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Time between two writes, in seconds; a killed process loses the counts of so long."""


class Recorder:
    """The chore that writes counts. A hit counts for the day on which the previous write ended."""

    def __init__(self, tally: Tally, file: CountFile, clock: Callable[[], datetime]) -> None:
        self._tally = tally
        self._file = file
        self._clock = clock
        self._day = clock().date()

    def tick(self) -> float:
        """Write the counts; return the seconds until the next call, which is never long after midnight."""
        self.write()
        now = self._clock()
        self._day = now.date()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return min(INTERVAL, (midnight - now).total_seconds())

    def write(self) -> None:
        """Write what was counted since the last call; if that fails, write it the next time."""
        numbers = self._tally.take()
        if not numbers:
            return
        try:
            self._file.add(self._day, numbers, oldest=self._day - timedelta(days=DAYS - 1))
        except sqlite3.Error as error:
            self._tally.put_back(numbers)
            _log.warning("counts of hits wait to be written: %s", error, extra={"event": "CountsDelayed"})
