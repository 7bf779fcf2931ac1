"""Format log records, one a line with a stable event name, and limit their rate; no record holds visitor data."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from collections import Counter
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "silent": logging.CRITICAL + 1,
}
FORMATS = ("json", "gcp", "pretty")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "trace_sampled"}
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE = re.compile(r"([0-9a-f]{32})(?:[/-]([0-9a-f]{1,16}))?.*|00-([0-9a-f]{32})-([0-9a-f]{16})-.*", re.IGNORECASE)

RATE_LIMITS = {
    # Any client's request can cause these.
    "EventSpooled": 1.0,
    "HmacValidationFailed": 1.0,
    "ProxyError": 1.0,
    "RowsQuarantined": 1.0,
    "SaltUnavailable": 1.0,
    "SpoolUnavailable": 1.0,
    "SyncKeyRefused": 1.0,
    # These last until an operator acts, and each retry finds them again.
    "AcceptFailed": 60.0,
    "CountsDelayed": 60.0,
    "DeliveryMisconfigured": 60.0,
    "SiteNotAllowed": 60.0,
    "SubscriptionUnavailable": 60.0,
    "TooManyNewSites": 60.0,
    "TracesFailed": 60.0,
}
"""Time between two records of one kind in one process, in seconds, by event; other events are not limited."""

_request: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)


class RequestContext:
    """Add the request's ids to the records that are logged within this block; a generator would cost 1 µs more."""

    __slots__ = ("_environ", "_token")

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def __enter__(self) -> None:
        self._token = _request.set(self._environ)

    def __exit__(self, *_: object) -> None:
        _request.reset(self._token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's time, level, event and message, and the fields passed as `extra`.

    Of an exception only its class and its frames are included: its message may quote what a client sent.
    """
    fields: dict[str, Any] = {
        "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "event": getattr(record, "event", None) or record.name,
        "message": record.getMessage(),
    }
    fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key != "event"}
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = record.exc_info[0].__name__
        fields["stack"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(record.exc_info[2])]
    if request := _request.get():
        for name, header in (("request_id", "HTTP_X_REQUEST_ID"), ("site_uuid", "HTTP_X_SITE_UUID")):
            value = request.get(header, "")
            if _PLAIN_ID.fullmatch(value):
                fields[name] = value
    return fields


class RateLimitFilter(logging.Filter):
    """Limit the rate of records by RATE_LIMITS.

    Records are of one kind if their event, `data_source` and message are equal; the message is compared before its
    arguments are filled in. The first record passes at once. Each later one that passes has the number of records
    dropped before it as `others`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next: dict[tuple[str, ...], float] = {}
        self._dropped: Counter[tuple[str, ...]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        event = getattr(record, "event", "")
        seconds = RATE_LIMITS.get(event)
        if seconds is None:
            return True
        kind = (event, str(record.msg), getattr(record, "data_source", ""))
        now = self._monotonic()
        with self._lock:
            if now < self._next.get(kind, now):
                self._dropped[kind] += 1
                return False
            self._next[kind] = now + seconds
            others = self._dropped.pop(kind, 0)
        if others:
            record.others = others
        return True


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as JSON."""
        return json.dumps(fields_of(record), default=str)


class GcpFormatter(logging.Formatter):
    """Format a record as one JSON object a line, with the field names of Google Cloud Logging."""

    def __init__(self, project: str | None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """Write the record with severity and trace context, as Cloud Logging's agent reads them."""
        fields = fields_of(record)
        fields["severity"] = fields.pop("level").upper()
        if self._project and "trace_id" in fields:
            fields["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{fields.pop('trace_id')}"
            fields["logging.googleapis.com/spanId"] = fields.pop("span_id")
            fields["logging.googleapis.com/trace_sampled"] = vars(record)["trace_sampled"]
        elif self._project and (request := _request.get()):
            context = request.get("HTTP_X_CLOUD_TRACE_CONTEXT") or request.get("HTTP_TRACEPARENT") or ""
            if match := _TRACE.fullmatch(context):
                trace = match[1] or match[3]
                fields["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace.lower()}"
                if span := match[4]:
                    fields["logging.googleapis.com/spanId"] = span.lower()
        return json.dumps(fields, default=str)


class PrettyFormatter(logging.Formatter):
    """Format a record as a line to read, with its further fields below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, event and message, then all other fields."""
        fields = fields_of(record)
        time, level, event, message = (fields.pop(key) for key in ("time", "level", "event", "message"))
        rest = "".join(f"\n    {key}: {_pretty(value)}" for key, value in fields.items())
        return f"{time[11:19]} {level:<8} {event}: {message}{rest}"


def configuration(level: str, form: str, project: str | None, *, traces: bool = False) -> dict[str, Any]:
    """Return a logging.config dictionary that writes all records to standard output in one form.

    With `traces` each record has the ids of the current span. The same dictionary serves gunicorn; the event of its
    records is its logger's name. Its records below info are dropped, because they hold the paths of requests.
    """
    formatter: dict[str, dict[str, Any]] = {
        "json": {"()": JsonFormatter},
        "gcp": {"()": GcpFormatter, "project": project},
        "pretty": {"()": PrettyFormatter},
    }
    own = {"level": LEVELS[level], "handlers": ["out"], "propagate": False}
    dictionary: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"form": formatter[form]},
        "filters": {"rate_limit": {"()": RateLimitFilter}},
        "handlers": {
            "out": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "form",
                "filters": ["rate_limit"],
            }
        },
        "root": {"level": max(LEVELS[level], logging.WARNING), "handlers": ["out"]},
        # urllib3's warnings quote URLs, which may hold a client's token. transport.py reports every failure itself.
        "loggers": {
            "urllib3": {"level": "CRITICAL", "propagate": False},
            "traffic_analytics": own,
            "gunicorn.error": own | {"level": max(LEVELS[level], logging.INFO)},
        },
    }
    if traces:
        out = dictionary["handlers"]["out"]
        dictionary["handlers"]["sdk"] = out | {"filters": ["redact", "rate_limit"]}
        out["filters"] = ["span", "rate_limit"]
        dictionary["filters"] |= {
            "span": {"()": "traffic_analytics.observability.log_correlation.SpanIdFilter"},
            "redact": {"()": "traffic_analytics.observability.log_correlation.RedactFilter"},
        }
        dictionary["loggers"]["opentelemetry"] = {
            "level": max(LEVELS[level], logging.WARNING),
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
