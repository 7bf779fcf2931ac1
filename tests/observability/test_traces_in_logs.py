"""Log records name the span in which they were written."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry.trace import format_span_id, format_trace_id

from tests.support.app import Log
from tests.support.spans import Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PRIVATE = "private-9d1f"


def refuse_signature(service: Any, **headers: str) -> None:
    """Provoke one record within a request."""
    assert service.hit(headers=headers).status_code == 401


@pytest.mark.parametrize(("flag", "exported"), [("01", 1), ("00", 0)])
def test_a_record_names_the_span_it_was_written_in(
    flag: str, exported: int, traced: Any, spans: Spans, log: Log
) -> None:
    refuse_signature(traced(HMAC_SECRET="k"), traceparent=f"00-{TRACE}-{SPAN}-{flag}")

    (record,) = log.records
    assert record["trace_id"] == TRACE
    assert len(record["span_id"]) == 16
    assert record["span_id"] != SPAN
    assert "trace_sampled" not in record
    assert [format_span_id(span.context.span_id) for span in spans.all] == [record["span_id"]] * exported


def test_a_pretty_record_names_the_span_too(traced: Any, log: Log) -> None:
    refuse_signature(traced(HMAC_SECRET="k", LOG_FORMAT="pretty"), traceparent=f"00-{TRACE}-{SPAN}-01")

    assert f"\n    trace_id: {TRACE}\n    span_id: " in log.text


def test_a_gcp_record_belongs_to_our_span_rather_than_to_the_headers(traced: Any, spans: Spans, log: Log) -> None:
    service = traced(HMAC_SECRET="k", LOG_FORMAT="gcp", GOOGLE_CLOUD_PROJECT="my-project")
    refuse_signature(service, **{"x-cloud-trace-context": f"{'1' * 32}/12345;o=1"})

    (record,) = log.records
    (request,) = spans.all
    trace_id = format_trace_id(request.context.trace_id)
    assert record["logging.googleapis.com/trace"] == f"projects/my-project/traces/{trace_id}"
    assert record["logging.googleapis.com/spanId"] == format_span_id(request.context.span_id)
    assert record["logging.googleapis.com/trace_sampled"] is True
    assert not record.keys() & {"trace_id", "span_id", "trace_sampled"}


def test_a_log_record_outside_of_any_span_names_none(traced: Any, log: Log) -> None:
    traced()
    logging.getLogger("traffic_analytics.any").error("a message", extra={"event": "Any"})

    (record,) = log.records
    assert not record.keys() & {"trace_id", "span_id", "trace_sampled"}


def test_log_records_of_opentelemetry_are_redacted_and_not_repeated(traced: Any, log: Log) -> None:
    traced()
    logger = logging.getLogger("opentelemetry.exporter.any")
    for error in (ValueError(PRIVATE), KeyError(PRIVATE)):
        logger.warning("Transient error %s for %s, code %d", error, f"https://{PRIVATE}/", 503)
    try:
        json.loads(PRIVATE)
    except ValueError as error:
        logger.error("Error while writing", exc_info=error)

    first, second = log.records
    assert (first["event"], first["message"]) == ("TracesFailed", "Transient error ValueError for …, code 503")
    assert (second["event"], second["error"]) == ("TracesFailed", "JSONDecodeError")
    assert PRIVATE not in log.text


def test_with_traces_the_rate_of_records_is_limited_as_without(traced: Any, log: Log) -> None:
    traced()
    for _ in range(3):
        logging.getLogger("traffic_analytics.any").error("no salt", extra={"event": "SaltUnavailable"})

    assert [record["event"] for record in log.records] == ["SaltUnavailable"]
