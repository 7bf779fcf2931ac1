"""Every log line is one record with a stable event name, and holds no token, address or body."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from analytics_store.settings import LEVELS


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Tell a record's time, level and event first, then the facts given by `say`; gunicorn's records have a message."""
    own = record.name == "analytics_store"
    said: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": record.getMessage() if own else record.name,
    }
    said |= getattr(record, "facts", {}) if own else {"message": record.getMessage()}
    if record.exc_info and record.exc_info[0]:
        # The class alone: a database error's text may quote a row.
        said["error"] = record.exc_info[0].__name__
    return said


class JsonFormatter(logging.Formatter):
    """One JSON object a line; Google Cloud calls the level severity."""

    def __init__(self, level_name: str = "level") -> None:
        super().__init__()
        self._level_name = level_name

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as JSON."""
        said = fields_of(record)
        if self._level_name != "level":
            said[self._level_name] = said.pop("level").upper()
        return json.dumps(said, default=str)


class PrettyFormatter(logging.Formatter):
    """One line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level and event, then whatever else there is."""
        said = fields_of(record)
        time, level, event = (said.pop(key) for key in ("time", "level", "event"))
        facts = said.pop("message", "") or " ".join(f"{key}={value}" for key, value in said.items())
        return f"{time[11:19]} {level:<8} {event}: {facts}"


def configuration(level: str, form: str) -> dict[str, Any]:
    """Return a logging.config dictionary, for gunicorn too: everything goes to standard error in one form."""
    formatter: dict[str, dict[str, Any]] = {
        "json": {"()": JsonFormatter},
        "gcp": {"()": JsonFormatter, "level_name": "severity"},
        "pretty": {"()": PrettyFormatter},
    }
    own = {"level": LEVELS[level], "handlers": ["err"], "propagate": False}
    # What gunicorn says below info holds the paths of requests, and those hold tokens.
    gunicorns = own | {"level": max(LEVELS[level], logging.INFO)}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"form": formatter[form]},
        "handlers": {"err": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "form"}},
        "root": {"level": max(LEVELS[level], logging.WARNING), "handlers": ["err"]},
        "loggers": {"analytics_store": own, "gunicorn.error": gunicorns},
    }


def say(level: int, event: str, /, **facts: object) -> None:
    """Log one event with its facts."""
    logging.getLogger("analytics_store").log(level, event, extra={"facts": facts})
