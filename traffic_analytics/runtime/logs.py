"""A log line is one record with a stable event name, and says nothing about visitors."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "silent": logging.CRITICAL + 1,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "trace_sampled"}
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE = re.compile(r"([0-9a-f]{32})(?:[/-]([0-9a-f]{1,16}))?.*|00-([0-9a-f]{32})-([0-9a-f]{16})-.*", re.IGNORECASE)

_ONCE_A_SECOND = frozenset({"SaltUnavailable", "SpoolUnavailable", "SyncKeyRefused"})
"""Events that requests of anybody cause."""

_request: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)


@contextmanager
def request_context(environ: Mapping[str, Any]) -> Iterator[None]:
    """Let the records of this block name the request that they are about."""
    token = _request.set(environ)
    try:
        yield
    finally:
        _request.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record says: time, level, event, message, and what was passed as `extra`.

    An exception is told by its class and its frames only: its message may quote what a client sent.
    """
    said: dict[str, Any] = {
        "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "event": getattr(record, "event", None) or record.name,
        "message": record.getMessage(),
    }
    said |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key != "event"}
    if record.exc_info and record.exc_info[0] is not None:
        said["error"] = record.exc_info[0].__name__
        said["stack"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(record.exc_info[2])]
    if request := _request.get():
        for name, header in (("request_id", "HTTP_X_REQUEST_ID"), ("site_uuid", "HTTP_X_SITE_UUID")):
            value = request.get(header, "")
            if _PLAIN_ID.fullmatch(value):
                said[name] = value
    return said


class RateLimitFilter(logging.Filter):
    """Lets records of refused requests pass once a second, with the number of `others` that were held back.

    A neighbour that is away refuses thousands of hits, and one record says as much as all.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        event = getattr(record, "event", "")
        if event not in _ONCE_A_SECOND:
            return True
        now = self._monotonic()
        with self._lock:
            if now < self._next.get(event, now):
                self._held_back[event] += 1
                return False
            self._next[event] = now + 1.0
            others, self._held_back[event] = self._held_back.get(event, 0), 0
        if others:
            record.others = others
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as JSON."""
        return json.dumps(fields_of(record), default=str)


class GcpFormatter(logging.Formatter):
    """One JSON object a line, in the words of Google Cloud Logging."""

    def __init__(self, project: str | None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """Write the record with severity and trace context, as Cloud Logging's agent reads them."""
        said = fields_of(record)
        said["severity"] = said.pop("level").upper()
        if self._project and "trace_id" in said:
            said["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{said.pop('trace_id')}"
            said["logging.googleapis.com/spanId"] = said.pop("span_id")
            said["logging.googleapis.com/trace_sampled"] = vars(record)["trace_sampled"]
        elif self._project and (request := _request.get()):
            context = request.get("HTTP_X_CLOUD_TRACE_CONTEXT") or request.get("HTTP_TRACEPARENT") or ""
            if match := _TRACE.fullmatch(context):
                trace = match[1] or match[3]
                said["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace.lower()}"
                if span := match[4]:
                    said["logging.googleapis.com/spanId"] = span.lower()
        return json.dumps(said, default=str)


class PrettyFormatter(logging.Formatter):
    """One line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, event and message, then whatever else there is."""
        said = fields_of(record)
        time, level, event, message = (said.pop(key) for key in ("time", "level", "event", "message"))
        rest = "".join(f"\n    {key}: {_pretty(value)}" for key, value in said.items())
        return f"{time[11:19]} {level:<8} {event}: {message}{rest}"


def configuration(level: str, form: str, project: str | None, *, traces: bool = False) -> dict[str, Any]:
    """Return a logging.config dictionary: everything goes to standard output in one form.

    With `traces` records name the span in which they were written.

    The same dictionary serves gunicorn, whose own records are told from ours by their event name. What gunicorn says
    below info is dropped, for it holds the paths of requests.
    """
    formatter: dict[str, dict[str, Any]] = {
        "json": {"()": JsonFormatter},
        "gcp": {"()": GcpFormatter, "project": project},
        "pretty": {"()": PrettyFormatter},
    }
    own = {"level": _LEVELS[level], "handlers": ["out"], "propagate": False}
    dictionary: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"form": formatter[form]},
        "filters": {"seldom": {"()": RateLimitFilter}},
        "handlers": {
            "out": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "form",
                "filters": ["seldom"],
            }
        },
        "root": {"level": max(_LEVELS[level], logging.WARNING), "handlers": ["out"]},
        # urllib3's warnings quote URLs, and a sender's token may stand in one. transport.py names every failure itself.
        "loggers": {
            "urllib3": {"level": "CRITICAL", "propagate": False},
            "traffic_analytics": own,
            "gunicorn.error": own | {"level": max(_LEVELS[level], logging.INFO)},
        },
    }
    if traces:
        out = dictionary["handlers"]["out"]
        dictionary["handlers"]["sdk"] = out | {"filters": ["sdk"]}
        out["filters"] = ["span"]
        dictionary["filters"] = {
            "span": {"()": "traffic_analytics.observability.log_correlation.SpanIdFilter"},
            "sdk": {"()": "traffic_analytics.observability.log_correlation.RedactFilter"},
        }
        dictionary["loggers"]["opentelemetry"] = {
            "level": max(_LEVELS[level], logging.WARNING),
            "handlers": ["sdk"],
            "propagate": False,
        }
    return dictionary


def _pretty(value: object, indent: str = "\n      ") -> str:
    if isinstance(value, dict):
        return "".join(f"{indent}{key}: {_pretty(each, indent + '  ')}" for key, each in value.items())
    if isinstance(value, list):
        return "".join(f"{indent}{each}" for each in value)
    return str(value)
