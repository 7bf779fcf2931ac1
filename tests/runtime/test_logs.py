from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.app import FIREFOX, SITE, TARGET, Log, page_hit
from tests.support.clocks import Clock
from tests.support.fakes import UnusableSalts
from traffic_analytics.runtime import logs
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from collections.abc import Callable

HIT = "/api/v1/page_hit?name=analytics_events"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PRIVATE = "private-9d1f"
ADDRESS = "203.0.113.77"


def fail_to_forward(start: Any, headers: dict[str, str] | None = None, **environment: str) -> None:
    """Cause one record: Tinybird refuses a hit, and there is no spool."""
    service = start(TINYBIRD_TRACKER_TOKEN="", **environment)
    service.tinybird.post(TARGET, status_code=403)
    assert service.hit(headers=headers or {}).status_code == 502


def test_a_successful_hit_logs_nothing(start: Any, log: Log) -> None:
    service = start()
    googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

    assert service.hit().status_code == 202
    assert service.hit(headers={"User-Agent": googlebot}).status_code == 202
    assert service.client.get("/health").status_code == 200
    assert log.text == ""


def test_a_json_record_has_time_level_event_and_message(start: Any, log: Log) -> None:
    fail_to_forward(start, {"x-request-id": "req-1"}, LOG_FORMAT="json")

    (record,) = log.records
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    assert (record["level"], record["event"]) == ("error", "ProxyError")
    assert record["message"]
    assert (record["request_id"], record["site_uuid"]) == ("req-1", SITE)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-request-id", 'a"b'),
        ("x-request-id", "a b"),
        ("x-request-id", "x" * 500),
        ("x-request-id", "\x1b[31m"),
        ("x-site-uuid", "no uuid"),
    ],
)
def test_a_malformed_id_is_not_logged(header: str, value: str, start: Any, log: Log) -> None:
    service = start(HMAC_SECRET="k")

    assert service.hit(headers={header: value}).status_code == 401
    (record,) = log.records
    assert record["event"] == "HmacValidationFailed"
    assert header.replace("-", "_")[2:] not in record


@pytest.mark.parametrize(
    ("header", "value", "trace", "span"),
    [
        ("x-cloud-trace-context", f"{TRACE}/12345;o=1", TRACE, None),
        ("x-cloud-trace-context", TRACE, TRACE, None),
        ("x-cloud-trace-context", TRACE.upper(), TRACE, None),
        ("traceparent", f"00-{TRACE}-{SPAN}-01", TRACE, SPAN),
        ("traceparent", "garbage", None, None),
        ("traceparent", f"00-{TRACE[:-1]}-{SPAN}-01", None, None),
        ("x-cloud-trace-context", f"x{TRACE}", None, None),
        ("x-other", TRACE, None, None),
    ],
)
def test_a_gcp_record_belongs_to_its_trace(
    header: str, value: str, trace: str | None, span: str | None, start: Any, log: Log
) -> None:
    fail_to_forward(start, {header: value}, LOG_FORMAT="gcp", GOOGLE_CLOUD_PROJECT="my-project")

    (record,) = log.records
    assert (record["severity"], record["event"]) == ("ERROR", "ProxyError")
    assert "level" not in record
    expected = f"projects/my-project/traces/{trace}" if trace else None
    assert record.get("logging.googleapis.com/trace") == expected
    assert record.get("logging.googleapis.com/spanId") == span


def test_a_trace_needs_a_project(start: Any, log: Log) -> None:
    fail_to_forward(start, {"traceparent": f"00-{TRACE}-{SPAN}-01"}, LOG_FORMAT="gcp")

    assert not [key for key in log.records[0] if key.startswith("logging.")]


def test_a_pretty_record_has_a_line_and_its_fields_below(start: Any, log: Log) -> None:
    fail_to_forward(start, {"x-request-id": "req-1"}, LOG_FORMAT="pretty")

    first, *rest = log.text.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d error +ProxyError: ", first)
    assert "    request_id: req-1" in rest


def test_a_pretty_record_indents_nested_fields(start: Any, log: Log) -> None:
    start(LOG_FORMAT="pretty", LOG_EVENTS="true").hit()

    assert "\n      payload: \n        event_id: " in log.text
    assert "\n        meta: \n          received_timestamp: " in log.text


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("trace", ["debug", "info", "warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warn", ["warning", "error"]),
        ("error", ["error"]),
        ("fatal", []),
        ("silent", []),
    ],
)
def test_records_below_the_level_are_dropped(level: str, seen: list[str], start: Any, log: Log) -> None:
    start(LOG_LEVEL=level)
    logger = logging.getLogger("traffic_analytics.any")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("said", extra={"event": "Said"})

    assert [record["level"] for record in log.records] == seen


@pytest.mark.parametrize("form", ["json", "gcp", "pretty"])
def test_an_exception_is_logged_without_its_message(form: str, start: Any, log: Log) -> None:
    start(LOG_FORMAT=form)
    try:
        json.loads(PRIVATE)
    except ValueError as error:
        logging.getLogger("traffic_analytics.any").error("failed", exc_info=error, extra={"event": "Failed"})

    assert "JSONDecodeError" in log.text
    assert "test_an_exception_is_logged_without_its_message" in log.text
    assert "Expecting value" not in log.text
    if form != "pretty":
        assert len(log.records) == 1


def test_a_line_break_in_a_message_makes_no_second_record(start: Any, log: Log) -> None:
    start()
    logging.getLogger("traffic_analytics.any").error('a\n{"event": "Forged"}\u2028\x85', extra={"event": "Real"})

    assert log.text.count("\n") == 1
    assert json.loads(log.text)["event"] == "Real"


class Sink(logging.Handler):
    """Collect the records that pass the filter, as the formatters see them."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []
        self.addFilter(logs.RateLimitFilter(monotonic))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(logs.fields_of(record))


@pytest.fixture
def now() -> Clock[float]:
    return Clock(1000.0)


@pytest.fixture
def sink(now: Clock[float]) -> Sink:
    return Sink(now)


def log_event(sink: Sink, event: str, message: str = "failed: %s", *args: object, **extra: object) -> None:
    record = logging.makeLogRecord({"msg": message, "args": args or ("x",), "event": event, **extra})
    sink.handle(record)


@pytest.mark.parametrize(("event", "seconds"), logs.RATE_LIMITS.items())
def test_an_event_is_logged_at_its_rate_with_the_number_of_records_between(
    event: str, seconds: float, sink: Sink, now: Clock[float]
) -> None:
    for _ in range(5):
        log_event(sink, event)
    now.now += seconds - 0.01
    log_event(sink, event)
    now.now += 0.01
    for _ in range(2):
        log_event(sink, event)
    now.now += seconds
    log_event(sink, event)
    now.now += seconds
    log_event(sink, event)

    assert [record.get("others") for record in sink.records] == [None, 5, 1, None]


def test_a_data_source_or_message_hides_no_other_of_the_same_event(sink: Sink) -> None:
    for _ in range(3):
        log_event(sink, "RowsQuarantined", "%d rows", 1, data_source="analytics_events")
        log_event(sink, "RowsQuarantined", "%d rows", 2, data_source="analytics_events_test")
        log_event(sink, "SpoolUnavailable", "no spool: %s", "the disk is full")
        log_event(sink, "SpoolUnavailable", "nothing can be stored: %s", "the disk is full")

    assert [record["message"] for record in sink.records] == [
        "1 rows",
        "2 rows",
        "no spool: the disk is full",
        "nothing can be stored: the disk is full",
    ]


def test_the_arguments_of_a_message_make_no_new_kind(sink: Sink) -> None:
    for number in range(1000):
        log_event(sink, "HmacValidationFailed", "%s", number)

    assert len(sink.records) == 1


def test_an_event_without_a_limit_is_always_logged(sink: Sink) -> None:
    for _ in range(3):
        log_event(sink, "EventSetAside")

    assert [record.get("others") for record in sink.records] == [None] * 3


def test_hits_with_wrong_signatures_are_logged_once_a_second(start: Any, log: Log) -> None:
    service = start(HMAC_SECRET="k")
    for _ in range(20):
        assert service.hit().status_code == 401

    assert 1 <= len(log.records) < 5


def test_the_rate_of_gunicorns_records_is_limited_too(start: Any, log: Log) -> None:
    start()
    for _ in range(3):
        logging.getLogger("gunicorn.error").error("no connection", extra={"event": "AcceptFailed"})

    assert [record["event"] for record in log.records] == ["AcceptFailed"]


def test_quarantined_rows_and_spooled_events_are_logged_once_a_second(start: Any, log: Log) -> None:
    service = start()
    service.tinybird.post(TARGET, status_code=202, json={"successful_rows": 0, "quarantined_rows": 1})
    for _ in range(20):
        assert service.hit().status_code == 202
    service.tinybird.post(TARGET, status_code=400)
    for _ in range(20):
        assert service.hit().status_code == 202

    events = [record["event"] for record in log.records]
    assert 1 <= events.count("RowsQuarantined") < 5
    assert 1 <= events.count("EventSpooled") < 5


class KnownSalts(MemorySalts):
    def get_or_create(self, *_: Any) -> str:
        return f"salt-{PRIVATE}"


@pytest.mark.parametrize("form", ["json", "gcp", "pretty"])
def test_nothing_private_is_logged_whatever_happens(form: str, start: Any, log: Log) -> None:
    headers = {
        "User-Agent": f"{FIREFOX} {PRIVATE}",
        "X-Forwarded-For": ADDRESS,
        "Cookie": f"a={PRIVATE}",
        "Authorization": f"Bearer {PRIVATE}",
        "Referer": f"https://{PRIVATE}.example/",
    }
    target = f"{HIT}&token={PRIVATE}"
    common: dict[str, Any] = {"LOG_FORMAT": form, "LOG_LEVEL": "trace", "GOOGLE_CLOUD_PROJECT": "p"}
    statuses = []

    def hit(service: Any, body: Any = None, target: str = target, **more: str) -> None:
        answer = service.hit(
            page_hit(pathname=f"/{PRIVATE}/") if body is None else body,
            target,
            headers={**headers, **more},
            environ_overrides={"REMOTE_ADDR": "203.0.113.78"},
        )
        statuses.append(answer.status_code)

    for token in ("", f"ours-{PRIVATE}"):
        service = start(salts=KnownSalts(), TINYBIRD_TRACKER_TOKEN=token, **common)
        service.tinybird.post(TARGET, status_code=202, json={})
        hit(service)
        hit(service, {"payload": PRIVATE})
        hit(service, f'{{"a": {PRIVATE}'.encode())
        hit(service, PRIVATE.encode() * 5_000)
        hit(service, target=f"/{PRIVATE}")
        hit(service, target=f"/api/v1/page_hit?name={PRIVATE}")
        hit(service, **{"Content-Type": PRIVATE})
        for failure in (requests.ConnectionError(PRIVATE), requests.ReadTimeout(PRIVATE), OSError(PRIVATE)):
            service.tinybird.post(TARGET, exc=failure)
            hit(service)
        service.tinybird.post(TARGET, status_code=403, text=PRIVATE, reason=PRIVATE)
        hit(service)
        service.now = PRIVATE
        hit(service)
    hit(start(salts=UnusableSalts(), **common))
    hit(start(HMAC_SECRET=f"k-{PRIVATE}", **common))
    hit(start(HMAC_SECRET=f"k-{PRIVATE}", **common), target=f"{target}&t=1&hmac={PRIVATE}")

    assert {202, 400, 401, 404, 413, 415, 500, 503} <= set(statuses)
    text = log.text
    assert "UnhandledError" in text
    for private in (PRIVATE, ADDRESS, "203.0.113.78", FIREFOX, "pathname"):
        assert private not in text
