"""Every log line is one JSON object with a stable event name, and holds no token, address or body."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

LOG = logging.getLogger("analytics_store")


class JsonLines(logging.Formatter):
    """Writes records as JSON; a record's message is its event name."""

    def format(self, record: logging.LogRecord) -> str:
        """Put time, level and event first, then the facts given by `say`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "facts", {}))
        if record.exc_info and record.exc_info[0]:
            # The class alone: a database error's text may quote a row.
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, default=str)


def set_up(level: str) -> None:
    """Send the store's log to standard error, once however often called."""
    if not LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        LOG.addHandler(handler)
        LOG.propagate = False
    LOG.setLevel(level)


def say(level: int, event: str, /, **facts: object) -> None:
    """Log one event with its facts."""
    LOG.log(level, event, extra={"facts": facts})
