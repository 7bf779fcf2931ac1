"""Add span ids to log records, and redact OpenTelemetry's own records.

runtime/logs.py names these filters, and logging.config imports them only if traces are on.
"""

from __future__ import annotations

import logging

from opentelemetry import trace


class SpanIdFilter(logging.Filter):
    """Add the ids of the current span, sampled or not."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record and return True: no record is dropped."""
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
            record.trace_sampled = span.trace_flags.sampled
        return True


class RedactFilter(logging.Filter):
    """Redact the arguments of OpenTelemetry's records, and give them the event TracesFailed.

    Arguments may be values of its variables, such as URLs and headers that hold keys. Numbers and the classes of errors
    stay.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record and return True: no record is dropped."""
        record.event = "TracesFailed"
        if isinstance(record.args, tuple):
            record.args = tuple(_redact(each) for each in record.args)
        return True


def _redact(value: object) -> object:
    if isinstance(value, int | float):
        return value
    return type(value).__name__ if isinstance(value, BaseException) else "…"
