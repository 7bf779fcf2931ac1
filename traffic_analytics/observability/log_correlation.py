"""Records name the span in which they were written, and OpenTelemetry's own keep its secrets.

logs.py names these filters and logging.config imports them, only if traces are on.
"""

from __future__ import annotations

import logging

from opentelemetry import trace

SAY_AGAIN_AFTER = 60.0
"""Seconds for which OpenTelemetry does not repeat a complaint."""


class SpanIdFilter(logging.Filter):
    """Adds the ids of the current span, whether it is sampled or not."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
            record.trace_sampled = span.trace_flags.sampled
        return True


class RedactFilter(logging.Filter):
    """Takes words out of what OpenTelemetry says, and repetitions.

    The words are its variables', URLs and headers with keys in them among others. Numbers and the classes of errors
    stay. A collector that is away would be worth two lines every few seconds for each process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass if its like did not lately."""
        record.event = "TracesFailed"
        if isinstance(record.args, tuple):
            record.args = tuple(_harmless(each) for each in record.args)
        kind = (record.name, str(record.msg))
        if record.created - self._said.get(kind, -SAY_AGAIN_AFTER) < SAY_AGAIN_AFTER:
            return False
        self._said[kind] = record.created
        return True


def _harmless(value: object) -> object:
    if isinstance(value, int | float):
        return value
    return type(value).__name__ if isinstance(value, BaseException) else "…"
