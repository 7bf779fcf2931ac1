from __future__ import annotations

from typing import Any

import pytest

from tests.support.spans import Spans


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(start: Any, spans: Spans) -> Any:
    """Start a service whose traces are on."""
    return lambda **environment: start(
        **{"span_processor": spans.processor, "OTEL_TRACES_EXPORTER": "otlp", **environment}
    )


@pytest.fixture
def metered(start: Any) -> Any:
    return start(METRICS="true")
