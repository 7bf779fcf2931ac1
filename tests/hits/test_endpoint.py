from __future__ import annotations

import importlib
import json
import pkgutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

import traffic_analytics
from tests.support.app import FIREFOX, NOW, OTHER_SITE, SITE, TARGET, Log, page_hit
from tests.support.fakes import UnusableSalts
from traffic_analytics import errors, wsgi
from traffic_analytics.hits import signed_url
from traffic_analytics.salts.sqlite import SqliteSalts

HIT = "/api/v1/page_hit?name=analytics_events"
BELOW = "/.ghost/analytics"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
UUID = "0fe04a48-1111-7222-f333-c106c06dff2e"
TOKEN = "visitors-secret-token"
ADDRESS = "203.0.113.77"


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


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "body", [b'{"successful_rows":1,"quarantined_rows":0}', b'{"successful_rows": 0, "quarantined_rows": 1}', b"{}"]
)
def test_the_response_of_tinybird_is_passed_on(status: int, body: bytes, service: Any) -> None:
    service.tinybird.post(TARGET, status_code=status, content=body, headers={"Set-Cookie": "a=b", "X-Internal": "1"})

    answer = service.hit()

    assert answer.status_code == status
    assert json.loads(answer.data) == json.loads(body)
    assert answer.mimetype == "application/json"
    assert not {"Set-Cookie", "X-Internal"} & set(answer.headers.keys())


@pytest.mark.parametrize("body", [b"", b"OK", b"<html>upstream</html>", b'{"cut":', b"\xff", b"[" * 100_000])
def test_a_success_that_is_no_json_is_replaced(body: bytes, service: Any) -> None:
    service.tinybird.post(TARGET, status_code=202, content=body)

    answer = service.hit()

    assert answer.status_code == 202
    assert json.loads(answer.data) == {}


def fail_to_forward(start: Any) -> Any:
    """Post a hit with the client's own token, which cannot be spooled."""
    service = start(TINYBIRD_TRACKER_TOKEN="")
    answer = service.hit(target=f"{HIT}&token={TOKEN}", headers={"X-Forwarded-For": ADDRESS, "x-request-id": "r-1"})
    assert f"token={TOKEN}" in service.tinybird.request_history[0].url
    return answer


def check_proxy_error(answer: Any, log: Log) -> None:
    assert answer.status_code == 502
    assert answer.json == {"error": "Proxy error"}
    assert answer.mimetype == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    (record,) = log.records
    assert (record["event"], record["level"]) == ("ProxyError", "error")
    assert (record["request_id"], record["site_uuid"]) == ("r-1", SITE)
    for private in (TOKEN, ADDRESS, FIREFOX, "Traceback"):
        assert private not in log.text


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 413, 422, 429, 500, 502, 503])
def test_any_other_answer_of_tinybird_is_a_proxy_error(status: int, start: Any, tinybird: Any, log: Log) -> None:
    tinybird.post(
        TARGET,
        status_code=status,
        text=f'{{"error": "invalid token {TOKEN}"}}',
        headers={"Location": "http://elsewhere.example/", "Retry-After": "3"},
    )

    check_proxy_error(fail_to_forward(start), log)
    assert str(status) in log.text
    assert len(tinybird.request_history) == 1


@pytest.mark.parametrize(
    "failure",
    [
        requests.ConnectTimeout(f"http://tinybird.example?token={TOKEN}"),
        requests.ReadTimeout(f"?token={TOKEN}"),
        requests.ConnectionError(f"refused {TOKEN}"),
        requests.exceptions.SSLError(TOKEN),
        requests.exceptions.ChunkedEncodingError(TOKEN),
        requests.exceptions.ContentDecodingError(TOKEN),
        ConnectionResetError(104, TOKEN),
        TimeoutError(TOKEN),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_unreachable_tinybird_is_a_proxy_error(failure: Exception, start: Any, tinybird: Any, log: Log) -> None:
    tinybird.post(TARGET, exc=failure)

    check_proxy_error(fail_to_forward(start), log)


def test_a_hit_without_a_salt_is_refused(start: Any, log: Log) -> None:
    service = start(salts=UnusableSalts())

    answer = service.hit()

    assert answer.status_code == 503
    assert answer.json["statusCode"] == 503
    assert service.tinybird.request_history == []
    assert [record["event"] for record in log.records] == ["SaltUnavailable"]


@pytest.mark.parametrize("prefix", ["", BELOW])
def test_ready_fails_without_salts_while_health_succeeds(prefix: str, start: Any) -> None:
    service = start(salts=UnusableSalts())

    answer = service.client.get(f"{prefix}/ready")

    assert answer.status_code == 503
    assert "salt" in answer.json["message"]
    assert service.client.get(f"{prefix}/health").status_code == 200


def test_ready_fails_while_the_salts_file_is_missing(tmp_path: Path, start: Any) -> None:
    path = tmp_path / "salts.sqlite3"
    service = start(salts=SqliteSalts(path))
    assert service.client.get("/ready").status_code == 200

    path.rename(tmp_path / "elsewhere")
    assert service.client.get("/ready").status_code == 200, "not every request writes to the disk"
    service.now += timedelta(seconds=1)
    assert service.client.get("/ready").status_code == 503
    assert service.hit().status_code == 503
    assert not path.exists()
    (tmp_path / "elsewhere").rename(path)
    assert service.client.get("/ready").status_code == 200
    assert service.hit().status_code == 202


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


def test_a_defect_is_answered_as_json_and_logged_without_its_message(start: Any, log: Log) -> None:
    service = start()
    service.now = "no time"  # the clock's answer has no date()

    answer = service.hit(page_hit(pathname="/private/"))

    assert answer.status_code == 500
    assert answer.json["statusCode"] == 500
    assert answer.headers["access-control-allow-origin"] == "*"
    (record,) = log.records
    assert record["event"] == "UnhandledError"
    assert record["error"] == "AttributeError"
    assert "no attribute" not in log.text
    assert "/private/" not in log.text


@pytest.mark.parametrize("site", [SITE, SITE.upper()])
def test_hits_of_allowed_sites_only_are_accepted(site: str, start: Any, log: Log) -> None:
    service = start(ALLOWED_SITES=f"{UUID}, {SITE}")

    assert service.hit(headers={"x-site-uuid": site}).status_code == 202
    for agent in (FIREFOX, GOOGLEBOT):
        answer = service.hit(headers={"x-site-uuid": OTHER_SITE, "User-Agent": agent})
        assert (answer.status_code, answer.json["error"]) == (403, "Forbidden")
        assert answer.headers["access-control-allow-origin"] == "*"
    assert len(service.events) == 1
    assert [(record["event"], record["site_uuid"]) for record in log.records] == [("SiteNotAllowed", OTHER_SITE)]


def hits_of(service: Any, *sites: str) -> list[int]:
    return [service.hit(headers={"x-site-uuid": site}).status_code for site in sites]


INVENTED = [f"00000000-0000-4000-8000-{number:012}" for number in range(20)]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_only_a_number_of_new_sites_is_accepted_within_an_hour(store: str, start: Any, log: Log) -> None:
    service = start(SALT_STORE_TYPE=store, MAX_NEW_SITES_PER_HOUR="3")

    assert hits_of(service, *INVENTED[:5]) == [202, 202, 202, 429, 429]
    assert hits_of(service, *INVENTED[:3]) == [202, 202, 202]
    service.now += timedelta(minutes=59)
    answer = service.hit(headers={"x-site-uuid": INVENTED[4]})
    assert (answer.json["error"], answer.headers["retry-after"]) == ("Too Many Requests", "60")
    assert [(record["event"], record["level"]) for record in log.records] == [("TooManyNewSites", "warning")]
    service.now += timedelta(minutes=1)
    assert hits_of(service, *INVENTED[4:8]) == [202, 202, 202, 429]


def test_a_site_is_not_new_if_it_has_a_salt_or_is_remembered_or_allowed(start: Any) -> None:
    settings = {"SALT_STORE_TYPE": "sqlite", "MAX_NEW_SITES_PER_HOUR": "2", "ALLOWED_SITES": ",".join(INVENTED)}
    hits_of(start(**settings), *INVENTED[:4])

    restarted = start(**settings | {"ALLOWED_SITES": ""})
    assert hits_of(restarted, *INVENTED[:4]) == [202] * 4, "salts of today"
    assert hits_of(restarted, *INVENTED[4:7]) == [202, 202, 429]
    restarted.now += timedelta(days=1)
    assert hits_of(restarted, *INVENTED[:6]) == [202] * 6, "known from the day before"
    assert hits_of(restarted, *INVENTED[6:9]) == [202, 202, 429]
    spelled = [INVENTED[0].replace("8000", variant) for variant in ("800a", "800A", "800b")]
    assert hits_of(start(**settings | {"ALLOWED_SITES": spelled[0]}), *spelled) == [202, 202, 403]


@pytest.mark.parametrize("idle", [timedelta(minutes=12), timedelta(days=3)])
def test_no_site_is_new_after_a_restart_past_midnight(idle: timedelta, start: Any) -> None:
    settings = {"SALT_STORE_TYPE": "sqlite", "MAX_NEW_SITES_PER_HOUR": "2"}
    before = start(**settings, ALLOWED_SITES=",".join(INVENTED[:6]))
    before.now = before.now.replace(hour=23, minute=55)
    assert hits_of(before, *INVENTED[:6]) == [202] * 6

    restarted = start(**settings)
    restarted.now = before.now + idle
    assert hits_of(restarted, *INVENTED[10:13]) == [202, 202, 429], "an attack comes first"
    assert hits_of(restarted, *INVENTED[:6]) == [202] * 6


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_all_sites_of_a_process_are_served_at_midnight(store: str, start: Any) -> None:
    service = start(SALT_STORE_TYPE=store, MAX_NEW_SITES_PER_HOUR="5")
    for hour in (10, 11):
        service.now = service.now.replace(hour=hour)
        assert hits_of(service, *INVENTED[hour - 10 : hour - 5]) == [202] * 5
    service.now = service.now.replace(day=23, hour=0, minute=0)

    assert hits_of(service, *INVENTED[:6]) == [202] * 6


def test_bots_and_invalid_hits_make_no_new_sites(start: Any) -> None:
    service = start(SALT_STORE_TYPE="memory", MAX_NEW_SITES_PER_HOUR="1")

    for site in INVENTED[:5]:
        service.hit(headers={"x-site-uuid": site, "User-Agent": GOOGLEBOT})
        service.hit(b"{}", headers={"x-site-uuid": site})
    assert hits_of(service, *INVENTED[5:7]) == [202, 429]


def every_subclass(parent: type[Exception]) -> set[type[Exception]]:
    return {parent}.union(*(every_subclass(child) for child in parent.__subclasses__()))


def test_every_error_that_a_request_can_meet_has_a_status() -> None:
    for module in pkgutil.walk_packages(traffic_analytics.__path__, "traffic_analytics."):
        importlib.import_module(module.name)
    never_raised = {errors.AnalyticsError, errors.RefusedHit}
    only_at_the_start = {errors.ConfigurationError, errors.DamagedFile, errors.ForeignFile}
    only_in_a_worker = {errors.NoEvent}

    met = every_subclass(errors.AnalyticsError) - never_raised - only_at_the_start - only_in_a_worker

    # The store's errors have the same root, and are known once its own tests are collected.
    assert {each for each in met if each.__module__.startswith("traffic_analytics.")} == set(wsgi.STATUS)
    assert all(400 <= status < 600 and name for status, name in wsgi.STATUS.values())
