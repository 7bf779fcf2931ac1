"""Test spans of real workers, with a collector that works and one that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import Load, Outcome, hit_together
from tests.support.collector import Collector, SilentCollector
from tests.support.processes import free_port, wait_until
from tests.support.running import running
from tests.support.service import ADDRESS, TOKEN, Service
from traffic_analytics.observability.span_export import FLUSH_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

HIT = "POST /api/v1/page_hit"
PATIENCE = 4.0
"""Time that a hit or a stop may take on a busy machine, in seconds; the exporter itself tries for ten."""


def post_hits(service: Service, hits: int) -> list[Outcome]:
    """Post hits from several browsers at a time; asserts that all are accepted."""
    with Load(service.port, browsers=10, hits_each=hits // 10) as load:
        outcomes = load.wait()
    assert [each.status for each in outcomes] == [202] * hits
    return outcomes


def test_spans_name_their_sender_and_all_are_sent_before_the_stop(tmp_path: Path) -> None:
    with Collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=k1",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
            "BUILD_LABEL": "b1",
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # never, except at the stop
            "OTEL_BSP_MAX_QUEUE_SIZE": "50000",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50000",
        }
        with running(tmp_path / "data", **environment) as (service, _):
            post_hits(service, 200)
            assert collector.requests == []
        assert len([span for span in collector.spans if span.name == HIT]) == 200

        by_id = {span.span_id: span for span in collector.spans}
        sent = [span for span in collector.spans if span.name == "send to Tinybird"]
        assert sent
        assert {by_id[span.parent_span_id].name for span in sent} == {HIT}
        for sender in collector.senders:
            assert sender["service.name"] == "analytics-service"
            assert sender["service.version"].endswith("+b1")
            assert sender["deployment.environment"] == "test"
        assert {headers["api-key"] for headers in collector.headers} == {"k1"}
        text = str(collector.requests)
        assert not [private for private in (ADDRESS, TOKEN, "Mozilla") if private in text]


def test_each_worker_sends_its_own_spans(tmp_path: Path) -> None:
    with Collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

        def have_both_sent() -> bool:
            hit_together(service.port, 20)
            return len({sender["service.instance.id"] for sender in collector.senders}) == 2

        with running(tmp_path / "data", **environment) as (service, _):
            wait_until(have_both_sent, 60)


def test_a_batch_of_the_forwarder_is_a_trace_of_its_own(tmp_path: Path) -> None:
    with (
        Collector() as collector,
        running(
            tmp_path / "data",
            DELIVERY="spool",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as (service, _),
    ):
        post_hits(service, 20)
        wait_until(lambda: "send a batch to Tinybird" in {span.name for span in collector.spans}, 30)
        batch = next(span for span in collector.spans if span.name == "send a batch to Tinybird")
        assert batch.parent_span_id == b""


def test_the_sampler_of_the_environment_is_used(tmp_path: Path) -> None:
    with Collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.2",
        }
        with running(tmp_path / "data", **environment) as (service, _):
            post_hits(service, 400)
        assert 20 < len([span for span in collector.spans if span.name == HIT]) < 200


@pytest.mark.parametrize("failure", ["refusing", "silent"])
def test_a_failing_collector_delays_no_hit_and_no_stop(tmp_path: Path, failure: str) -> None:
    with SilentCollector() as silent:
        url = silent.url if failure == "silent" else f"http://127.0.0.1:{free_port()}"
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "32",
        }
        with running(tmp_path / "data", **environment) as (service, _):
            slowest = max(each.seconds for each in post_hits(service, 400))
            seconds = service.terminate()
            warnings = service.log.count('"event": "TracesFailed"')
        assert slowest < PATIENCE
        assert seconds < FLUSH_SECONDS + PATIENCE
        # A few kinds from each of two workers, although hundreds of spans were dropped.
        assert 0 < warnings <= 10
        assert url not in service.log
