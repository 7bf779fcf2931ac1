from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import NOW, Log
from tests.support.fakes import UnusableSalts
from traffic_analytics.hits import signed_url

BELOW = "/.ghost/analytics"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize("prefix", ["", BELOW])
@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/", "text/plain", "Hello Ghost Traffic Analytics"),
        ("/info", "application/json", '{"build": "abc-1"}'),
        ("/health", "application/json", None),
        ("/ready", "application/json", None),
    ],
)
def test_probes_are_answered_with_and_without_ghosts_prefix(
    path: str, kind: str, text: str | None, prefix: str, start: Any
) -> None:
    answer = start(BUILD_LABEL="abc-1").client.get(prefix + path)

    assert answer.status_code == 200
    assert answer.mimetype == kind
    assert text is None or answer.text == text


def test_a_build_without_a_label_has_an_empty_one(service: Any) -> None:
    assert service.client.get("/info").json == {"build": ""}


@pytest.mark.parametrize("prefix", ["", BELOW])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_hit_is_accepted_with_and_without_prefix_and_slash(prefix: str, slash: str, service: Any) -> None:
    answer = service.hit(target=f"{prefix}/api/v1/page_hit{slash}?name=analytics_events")

    assert answer.status_code == 202
    assert len(service.events) == 1


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/page_hit",
        "/api//v1/page_hit",
        "/api/v1/page_hit//",
        f"{BELOW}//api/v1/page_hit",
        f"{BELOW}///api/v1/page_hit//",
        f"/{BELOW}//api/v1/page_hit",
    ],
)
def test_several_slashes_in_a_row_are_one(path: str, start: Any) -> None:
    service = start(HMAC_SECRET="k")
    query = f"name=analytics_events&t={int(NOW.timestamp())}"

    for signed in (path, "/api/v1/page_hit"):  # a signature covers the path as it arrived
        signature = signed_url.sign(f"{signed}?{query}", b"k").decode()
        target = f"{path}?{query}&hmac={signature}"
        answer = service.hit(
            target=f"/?{query}&hmac={signature}", environ_overrides={"PATH_INFO": path, "RAW_URI": target}
        )
        assert answer.status_code == (202 if signed == path else 401)
    assert len(service.events) == 1


@pytest.mark.parametrize("path", ["//", f"{BELOW}//", f"{BELOW}//health", f"{BELOW}//ready"])
def test_probes_are_answered_with_several_slashes_too(path: str, service: Any) -> None:
    assert service.client.get("/", environ_overrides={"PATH_INFO": path}).status_code == 200


PAGE = {"Origin": "https://blog.example", "Access-Control-Request-Method": "POST"}
OPTIONS_PATHS = ("/", "/info", "/health", "/ready", "/metrics", "/api/v1/page_hit", "/v0/pipes/api_kpis.json")


@pytest.mark.parametrize("prefix", ["", BELOW])
@pytest.mark.parametrize("path", [*OPTIONS_PATHS, "/api/v1/tinybird-sync"])
def test_every_route_answers_options_as_health_checks_and_preflights_need_it(
    path: str, prefix: str, start: Any
) -> None:
    service = start(METRICS="true", STATS_TARGET="http://stats.example", TINYBIRD_SYNC_AUTH="key", METRICS_TOKEN="m")

    answer = service.client.options(prefix + path)

    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "OPTIONS" in service.client.open(prefix + path, method="BREW").headers["allow"]


def test_options_of_the_whole_server_are_answered_and_those_of_no_route_are_404(service: Any) -> None:
    assert service.client.options("/", environ_overrides={"PATH_INFO": "*"}).status_code == 204
    assert service.client.options("/nowhere").status_code == 404
    assert service.client.options("/metrics").status_code == 404, "no route without METRICS"


@pytest.mark.parametrize("path", ["/api/v1/page_hit", "/v0/pipes/api_kpis.json"])
@pytest.mark.parametrize(
    ("requested", "added"),
    [
        ("baggage,content-type,sentry-trace,x-site-uuid", ["baggage", "sentry-trace"]),
        ("traceparent, TraceState, x-datadog-trace-id", ["traceparent", "TraceState", "x-datadog-trace-id"]),
        (
            "newrelic,b3,x-b3-sampled,uber-trace-id,x-a_b.c~d",
            ["newrelic", "b3", "x-b3-sampled", "uber-trace-id", "x-a_b.c~d"],
        ),
        ("authorization,CONTENT-TYPE,,", []),
        ("x-a,x-a", ["x-a"]),
        ("*", []),
        ("x a, x:b, x(c), \u00e4, x-good", ["x-good"]),
        (",".join(f"x-{number}" for number in range(300)), [f"x-{number}" for number in range(300)]),
        ("x" * 4097, []),
    ],
)
def test_a_preflight_allows_the_headers_that_the_browser_asks_for(
    requested: str, added: list[str], path: str, start: Any
) -> None:
    service = start(STATS_TARGET="http://stats.example")

    answer = service.client.options(path, headers={**PAGE, "Access-Control-Request-Headers": requested})

    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert answer.status_code == 204
    assert allowed[6:] == added
    assert answer.headers["vary"] == "Access-Control-Request-Headers"


@pytest.mark.parametrize("prefix", ["", BELOW])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_preflight_allows_what_ghosts_script_sends(prefix: str, slash: str, service: Any) -> None:
    answer = service.client.options(
        f"{prefix}/api/v1/page_hit{slash}?name=analytics_events",
        headers={
            "Origin": "https://blog.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-site-uuid",
        },
    )

    assert answer.status_code == 204
    assert answer.data == b""
    given = {name.lower(): value for name, value in answer.headers if name.lower().startswith("access-control-")}
    assert int(given.pop("access-control-max-age")) >= 600
    assert given == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
        "access-control-allow-headers": "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-site-uuid",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "/api/v1/page_hits", 404, "Not Found"),
        ("POST", "/api/v2/page_hit", 404, "Not Found"),
        ("POST", "/API/v1/page_hit", 404, "Not Found"),
        ("GET", "/.ghost/analytics/nowhere", 404, "Not Found"),
        ("GET", "/.ghost/analytics/.ghost/analytics/", 404, "Not Found"),
        ("GET", "/static/x", 404, "Not Found"),
        ("GET", "/\ud83d\ude00/%00/../%ff", 404, "Not Found"),
        ("POST", "/local-proxy", 404, "Not Found"),
        ("POST", "/local-proxy/v0/events", 404, "Not Found"),
        ("GET", "/api/v1/page_hit", 405, "Method Not Allowed"),
        ("HEAD", "/api/v1/page_hit", 405, "Method Not Allowed"),
        ("PUT", "/api/v1/page_hit/", 405, "Method Not Allowed"),
        ("DELETE", "/.ghost/analytics/api/v1/page_hit", 405, "Method Not Allowed"),
        ("BREW", "/api/v1/page_hit", 405, "Method Not Allowed"),
        ("POST", "/", 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
    ],
)
def test_anything_else_is_refused_as_json(method: str, path: str, status: int, error: str, service: Any) -> None:
    answer = service.client.open(path.encode("utf-8", "surrogatepass").decode("latin-1"), method=method)

    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    assert ("Allow" in answer.headers) == (status == 405)
    if method != "HEAD":
        assert answer.json == {"error": error, "message": answer.json["message"], "statusCode": status}
        assert answer.json["message"]


def test_ghosts_prefix_alone_answers_like_the_root(service: Any) -> None:
    assert service.client.get(BELOW).status_code == 200


def every_answer(service: Any) -> list[Any]:
    """Provoke one response of each kind that needs no broken neighbour."""
    client = service.client
    return [
        client.get("/"),
        client.get("/info"),
        client.get("/health"),
        client.get("/ready"),
        client.get("/nowhere"),
        client.get("/api/v1/page_hit"),
        client.options("/api/v1/page_hit"),
        service.hit(),
        service.hit(b"{"),
        service.hit(b" " * 30_000),
        service.hit(headers={"Content-Type": "text/plain"}),
        service.hit(headers={"User-Agent": GOOGLEBOT}),
    ]


def test_every_response_can_be_read_by_any_origin(start: Any) -> None:
    answers = every_answer(start())
    answers.append(start(HMAC_SECRET="k").hit())
    answers.append(start(salts=UnusableSalts()).hit())
    answers.append(start(salts=UnusableSalts()).client.get("/ready"))
    answers.append(start(PROXY_TARGET="http://unknown.example", TINYBIRD_TRACKER_TOKEN="").hit())

    assert {answer.status_code for answer in answers} >= {200, 202, 204, 400, 401, 404, 405, 413, 415, 503}
    for answer in answers:
        assert answer.headers.getlist("access-control-allow-origin") == ["*"], answer.status


@pytest.mark.parametrize(("setting", "header"), [("", None), ("false", None), ("true", "true")])
def test_a_hit_of_a_bot_is_accepted_and_dropped(setting: str, header: str | None, start: Any) -> None:
    service = start(ENABLE_BOT_DETECTION_HEADER=setting, salts=UnusableSalts())

    answer = service.hit(headers={"User-Agent": GOOGLEBOT})

    assert answer.status_code == 202
    assert answer.json == {"message": "Page hit event received"}
    assert answer.mimetype == "application/json"
    assert answer.headers.get("x-ghost-bot-detected") == header
    assert service.events == []


def test_a_browser_is_not_marked_as_a_bot(start: Any) -> None:
    assert "x-ghost-bot-detected" not in start(ENABLE_BOT_DETECTION_HEADER="true").hit().headers


def test_the_local_stand_in_logs_events_and_answers_like_tinybird(start: Any, log: Log) -> None:
    client = start(LOCAL_PROXY="true").client

    for path in ("/local-proxy", "/local-proxy/v0/events?name=analytics_events"):
        answer = client.post(path, data=b'{"a": 1}\n{"a": 2}')
        assert 200 <= answer.status_code < 300
        assert answer.json == {"successful_rows": 2, "quarantined_rows": 0}
    assert [record["payload"] for record in log.records] == [{"a": 1}, {"a": 2}] * 2
    for body in (b"no JSON", b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"\xff"):
        assert client.post("/local-proxy", data=body).status_code == 400


@pytest.mark.parametrize("log_format", ["json", "gcp", "pretty"])
def test_the_local_stand_in_survives_json_of_any_depth(log_format: str, start: Any, log: Log) -> None:
    client = start(LOCAL_PROXY="true", LOG_FORMAT=log_format).client

    # The depth that JSON may have depends on the version of Python, and on the part that reads or writes it.
    bodies = [b'{"a":' * depth + b"1" + b"}" * depth for depth in range(100, 1_200, 20)]
    assert {client.post("/local-proxy", data=body).status_code for body in bodies} <= {202, 400}
    assert "UnhandledError" not in log.text


def test_events_are_logged_only_if_configured(start: Any, log: Log) -> None:
    assert start().hit().status_code == 202
    assert log.records == []

    service = start(LOG_EVENTS="true", DELIVERY="direct")

    assert service.hit().status_code == 202
    (record,) = log.records
    assert record["event"] == "EventAccepted"
    assert record["payload"] == service.events[-1]
