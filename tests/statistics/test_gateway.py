from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
import requests
import requests_mock

from tests.support.app import NOW, SITE, TARGET, Service
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.single_flight import SingleFlight
from traffic_analytics.runtime.sqlite_file import SqliteFile
from traffic_analytics.salts.store import MemorySalts
from traffic_analytics.settings import Settings
from traffic_analytics.statistics.access import Access
from traffic_analytics.statistics.answer_cache import FILE_BYTES, LARGEST, PRAGMAS, SCHEMA, AnswerCache, Kept
from traffic_analytics.statistics.gateway import Statistics
from traffic_analytics.tinybird.pipes import Reply
from traffic_analytics.wiring import create_app

STATS = "http://stats.example"
ADMIN = "p.admin-token"
OTHER_SITE = "11111111-1111-4111-8111-111111111111"
STATIC = "p.eyJ1IjogIndoZXRoZXIifQ.signature"
ACTIVE = "/v0/pipes/api_active_visitors.json"


@functools.cache
def signed(content: str, secret: str) -> str:
    return jwt.encode(json.loads(content), secret.encode().ljust(32, b"\0"), algorithm="HS256")


def ghost_token(
    *,
    pipes: tuple[str, ...] = ("api_active_visitors", "api_kpis"),
    site: Any = SITE,
    secret: str = ADMIN,
    **claims: Any,
) -> str:
    """Sign what Ghost signs."""
    scopes = [{"type": "PIPES:READ", "resource": pipe, "fixed_params": {"site_uuid": site}} for pipe in pipes]
    expiry = int((NOW + timedelta(hours=3)).timestamp())
    content = {"workspace_id": "w", "name": f"tinybird-jwt-{site}", "exp": expiry, "scopes": scopes, **claims}
    return signed(json.dumps(content), secret)


def rows(*values: Any) -> dict[str, Any]:
    return {"meta": [], "data": [{"active_visitors": value} for value in values], "rows": len(values)}


class Gateway:
    """The service as Ghost's dashboard sees it, in front of a target that requests-mock plays."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.target = service.tinybird
        self.answers_with(json=rows(1))

    def answers_with(self, *answers: Any, **answer: Any) -> None:
        self.target.get(requests_mock.ANY, list(answers) or [answer])

    def ask(self, path: str = ACTIVE, token: str | None = STATIC, **kwargs: Any) -> Any:
        headers = kwargs.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token is not None else {})
        return self.service.app.test_client().get(path, headers=headers, **kwargs)

    def later(self, seconds: float) -> None:
        self.service.now += timedelta(seconds=seconds)

    @property
    def asked(self) -> list[Any]:
        """What the target was asked."""
        return [each for each in self.target.request_history if each.method == "GET"]


@pytest.fixture
def gateway(start: Any) -> Callable[..., Gateway]:
    return lambda **environment: Gateway(start(**{"STATS_TARGET": STATS, **environment}))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Callable[[], AnswerCache]:
    def make() -> AnswerCache:
        cache = AnswerCache(SqliteFile(tmp_path / "s.sqlite3", SCHEMA, PRAGMAS, busy_timeout=1.0), clock)
        cache.prepare()
        return cache

    return make


class Target(ThreadingHTTPServer):
    """A real server in the target's place, which answers when it is told to."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, go: threading.Event) -> None:
        self.paths: list[str] = []
        self.go = go
        self.answer = (200, json.dumps(rows(7)).encode())

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N805
                self.paths.append(handler.path)
                self.go.wait(10)
                status, body = self.answer
                handler.send_response(status)
                handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target(threading.Event())
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()


def app_for(url: str, data_dir: Path, **environment: str) -> Any:
    environment = {"PROXY_TARGET": TARGET, "DATA_DIR": str(data_dir), "STATS_TARGET": url, **environment}
    return create_app(Settings.from_env(environment), salt_store=MemorySalts())


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


# -- passing on


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
def test_a_question_goes_to_the_target_with_the_callers_token_and_comes_back(gateway: Any, prefix: str) -> None:
    gate = gateway()
    gate.answers_with(json=rows(3))

    answer = gate.ask(f"{prefix}/v0/pipes/api_kpis.json?site_uuid={SITE}&source=&date_from=2026-11-01")

    assert (answer.status_code, answer.json) == (200, rows(3))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-store"
    (request,) = gate.asked
    assert request.url == f"{STATS}/v0/pipes/api_kpis.json?date_from=2026-11-01&site_uuid={SITE}&source="
    assert request.headers["Authorization"] == f"Bearer {STATIC}"


def test_nothing_of_the_callers_request_travels_but_question_and_token(gateway: Any) -> None:
    gate = gateway()

    gate.ask(headers={"Cookie": "a=b", "X-Forwarded-For": "203.0.113.7", "User-Agent": "Mozilla", "Referer": "r"})

    (request,) = gate.asked
    assert {name.lower() for name in request.headers} == {"authorization", "accept", "user-agent"}
    assert request.headers["User-Agent"] == "traffic-analytics"


def test_a_token_in_the_query_is_taken_and_travels_in_the_header(gateway: Any) -> None:
    gate = gateway()

    answer = gate.ask(f"{ACTIVE}?token={STATIC}&site_uuid={SITE}", token=None)

    assert answer.status_code == 200
    assert gate.asked[0].headers["Authorization"] == f"Bearer {STATIC}"
    assert "token" not in gate.asked[0].url


@pytest.mark.parametrize("token", [None, "", "with blank", "sch\u00f6n", "x" * 8001])
def test_without_a_token_that_could_be_one_nothing_is_asked(gateway: Any, token: str | None) -> None:
    gate = gateway()

    answer = gate.ask(token=token)

    assert (answer.status_code, answer.json["error"]) == (403, "Forbidden")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert gate.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/v0/pipes",
        "/v0/pipes/",
        "/v0/pipes/api_kpis",
        "/v0/pipes/api_kpis.csv",
        "/v0/pipes/.json",
        "/v0/pipes/a-b.json",
        "/v0/pipes/../datasources.json",
        "/v0/pipes/%2e%2e/tokens.json",
        "/v0/pipes/api_kpis.json/",
        "/v0/pipes/api_kpis/nodes.json",
        "/v0/pipes/..%2Ftokens.json",
        "/v0/pipes/api_kpis%3Ftoken=a.json",
        "/v0/pipes/api_kpis%00.json",
        "/v0/pipes/api_kpis.json%0A",
        "/v0/pipes/caf\u00e9.json",
        f"/v0/pipes/{'a' * 101}.json",
        "/v0/sql",
        "/v0/tokens",
        "/v0/datasources/x.json",
        "/v0/events",
    ],
)
def test_only_pipes_by_name_are_passed_on(gateway: Any, path: str) -> None:
    gate = gateway()

    answer = gate.ask(path)

    assert answer.status_code in (404, 308)
    assert gate.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_405(gateway: Any, method: str) -> None:
    gate = gateway()

    answer = gate.service.client.open(ACTIVE, method=method, headers={"Authorization": f"Bearer {STATIC}"})

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert gate.asked == []


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
def test_a_browser_may_send_its_token_from_another_origin(gateway: Any, prefix: str) -> None:
    answer = gateway().service.client.options(
        prefix + ACTIVE,
        headers={"Origin": "https://blog.example", "Access-Control-Request-Headers": "authorization"},
    )

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "GET" in answer.headers["access-control-allow-methods"]


def test_without_stats_target_there_is_no_gateway_and_nothing_of_it_is_loaded(start: Any, monkeypatch: Any) -> None:
    for name in ("statistics", "statistics.routes", "statistics.gateway", "tinybird.pipes"):
        monkeypatch.setitem(sys.modules, f"traffic_analytics.{name}", None)  # importing it would fail

    service = start(TINYBIRD_ADMIN_TOKEN=ADMIN)

    assert service.client.get(ACTIVE).status_code == 404
    assert service.hit().status_code == 202
    assert not (Path(service.app.root_path) / "statistics.sqlite3").exists()


def test_too_many_parameters_are_400(gateway: Any) -> None:
    assert gateway().ask(ACTIVE + "?" + "&".join(f"a{n}=1" for n in range(101))).status_code == 400


def test_a_target_that_leads_back_here_is_named(gateway: Any) -> None:
    gate = gateway()

    answer = gate.ask(headers={"User-Agent": "traffic-analytics"})

    assert answer.status_code == 508
    assert "STATS_TARGET" in answer.json["message"]
    assert gate.asked == []


def test_what_the_target_says_about_the_question_passes_and_is_not_kept(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with(
        {"status_code": 400, "json": {"error": "site_uuid is required"}},
        {"status_code": 404, "text": "<html>"},
        {"json": rows(2)},
    )

    first, second, third = gate.ask(), gate.ask(), gate.ask()

    assert (first.status_code, first.json) == (400, {"error": "site_uuid is required"})
    assert (second.status_code, second.json) == (404, {"error": "status 404"})
    assert third.status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>"},
        {"json": [1]},
        {"status_code": 302, "headers": {"Location": "http://b.example"}, "json": {}},
        {"text": ""},
    ],
)
def test_an_answer_that_makes_no_sense_is_502_and_not_kept(gateway: Any, answer: dict[str, Any]) -> None:
    gate = gateway()
    gate.answers_with(answer, {"json": rows(1)})

    assert gate.ask().status_code == 502
    gate.later(11)
    assert gate.ask().status_code == 200


# -- keeping


def test_an_answer_is_given_again_for_the_time_set_and_no_longer(gateway: Any) -> None:
    gate = gateway(STATS_CACHE_SECONDS="90")
    gate.answers_with({"json": rows(1)}, {"json": rows(2)})

    first = gate.ask()
    gate.later(89)
    again = gate.ask()
    gate.later(1)
    renewed = gate.ask()

    assert [a.json["data"][0]["active_visitors"] for a in (first, again, renewed)] == [1, 1, 2]
    assert [a.headers["age"] for a in (first, again, renewed)] == ["0", "89", "0"]
    assert "age" in again.headers["access-control-expose-headers"]
    assert len(gate.asked) == 2


def test_zero_seconds_keep_nothing(gateway: Any, tmp_path: Path) -> None:
    gate = gateway(STATS_CACHE_SECONDS="0")
    gate.answers_with({"json": rows(1)}, {"json": rows(2)}, {"status_code": 500})

    assert [gate.ask().status_code for _ in range(3)] == [200, 200, 500]
    assert not (tmp_path / "statistics.sqlite3").exists()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a=1&b=2", "b=2&a=1", True),
        ("a=x%20y", "a=x+y", True),
        ("a=1&ghost_client=admin", "ghost_client=server&a=1", True),
        ("a=1", "a=1&token=x", True),
        ("a=1", "a=2", False),
        ("a=1", "a=", False),
        ("a=", "", False),
        ("a=1&a=2", "a=2&a=1", False),
        ("a=1%26b=2", "a=1&b=2", False),
    ],
)
def test_equal_questions_share_an_answer_however_they_are_written(
    gateway: Any, one: str, other: str, same: bool
) -> None:
    gate = gateway()

    gate.ask(f"{ACTIVE}?{one}")
    gate.ask(f"{ACTIVE}?{other}")

    assert len(gate.asked) == (1 if same else 2)


def test_another_pipe_is_another_question(gateway: Any) -> None:
    gate = gateway()

    gate.ask("/v0/pipes/api_kpis.json")
    gate.ask("/v0/pipes/api_kpis_v2.json")

    assert len(gate.asked) == 2


def test_workers_share_their_answers_and_a_restart_keeps_them(gateway: Any) -> None:
    gateway().ask()

    second = gateway()
    second.answers_with(json=rows("newer"))
    second.later(59)

    assert second.ask().json == rows(1)


def test_an_answer_of_one_target_is_not_given_for_another(gateway: Any) -> None:
    gateway().ask()
    other = gateway(STATS_TARGET="http://other.example")
    other.answers_with(json=rows("other"))

    assert other.ask().json == rows("other")


def test_the_file_holds_neither_tokens_nor_questions(gateway: Any, tmp_path: Path) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    gate.ask(f"{ACTIVE}?site_uuid={SITE}&pathname=/secret-page/", ghost_token())
    gate.ask(f"{ACTIVE}?site_uuid={SITE}&pathname=/secret-page/", STATIC)

    content = b"".join(file.read_bytes() for file in tmp_path.glob("statistics.sqlite3*"))

    assert b"active_visitors" in content
    for word in (ghost_token(), STATIC, ADMIN, SITE, "secret-page"):
        assert word.encode() not in content


# -- whose answers are whose


def test_without_the_admin_token_each_token_has_its_own_answers(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with({"json": rows("mine")}, {"json": rows("yours")})

    mine, yours, mine_again = gate.ask(token="mine"), gate.ask(token="yours"), gate.ask(token="mine")

    assert [a.json for a in (mine, yours, mine_again)] == [rows("mine"), rows("yours"), rows("mine")]


def test_with_the_admin_token_tokens_of_equal_rights_share_answers(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    tokens = [ghost_token(), ghost_token(name="another"), ghost_token(pipes=("api_active_visitors_v2",))]

    answers = [gate.ask(f"{ACTIVE}?site_uuid={SITE}", token) for token in tokens]

    assert [a.status_code for a in answers] == [200, 200, 200]
    assert len(gate.asked) == 1


def test_the_same_question_under_other_rights_is_another(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    all_sites = ghost_token(scopes=[{"type": "PIPES:READ", "resource": "api_active_visitors"}])

    for token in (ghost_token(), all_sites, ghost_token(), all_sites):
        gate.ask(f"{ACTIVE}?site_uuid={SITE}", token)

    assert len(gate.asked) == 2


def test_what_a_token_fixes_outranks_what_the_request_says(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    by_site = {SITE: rows("mine"), OTHER_SITE: rows("theirs")}
    gate.answers_with(json=lambda request, _: by_site[request.qs["site_uuid"][0]])
    gate.ask(f"{ACTIVE}?site_uuid={OTHER_SITE}", ghost_token(site=OTHER_SITE))

    forged = [
        f"site_uuid={OTHER_SITE}",
        f"site_uuid={OTHER_SITE}&site_uuid={SITE}",
        f"site_uuid={SITE}&site_uuid={OTHER_SITE}",
        f"site%5Fuuid={OTHER_SITE}",
        f"site_uuid={SITE}",
        "",
    ]
    answers = [gate.ask(f"{ACTIVE}?{query}", ghost_token()).json for query in forged]

    assert answers == [rows("mine")] * len(forged)
    assert [parse_qs(each.query)["site_uuid"] for each in gate.asked] == [[OTHER_SITE], [SITE]]


def part(value: Any) -> str:
    return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()


CLAIMS = jwt.decode(ghost_token(), options={"verify_signature": False})
BAD = {
    "expired": ghost_token(exp=int(NOW.timestamp())),
    "without an expiry": ghost_token(exp=None),
    "with an expiry in words": f"{ghost_token(exp='2099')}",
    "not valid yet": ghost_token(nbf=int(NOW.timestamp()) + 60),
    "signed by somebody else": ghost_token(secret="p.another-admin-token"),
    "of another pipe": ghost_token(pipes=("api_kpis",)),
    "of a pipe with a longer name": ghost_token(pipes=("api_active_visitors_v2_v2", "api_active_visitors2")),
    "without scopes": ghost_token(scopes=None),
    "with another kind of scope": ghost_token(scopes=[{"type": "DATASOURCES:READ", "resource": "api_active_visitors"}]),
    "with strange scopes": ghost_token(scopes=[1, {}, {"type": "PIPES:READ", "resource": ["api_active_visitors"]}]),
    "with a fixed parameter that is nothing": ghost_token(site=None),
    "with a fixed parameter of several values": ghost_token(site=[SITE, OTHER_SITE]),
    "unsigned": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(CLAIMS)}.",
    "of a longer hash": jwt.encode(CLAIMS, ADMIN.ljust(64, "\0"), algorithm="HS512"),
    "of an asymmetric algorithm": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(CLAIMS)}.c2ln",
    "with a key of its own": f"{part({'alg': 'HS256', 'kid': 1})}.{part(CLAIMS)}.c2ln",
    "with claims that are no object": f"{part({'alg': 'HS256'})}.{part([1])}.c2ln",
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
def test_a_bad_token_is_refused_here_even_if_the_answer_is_known(gateway: Any, token: str) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    gate.ask(ACTIVE, ghost_token())
    gate.answers_with(status_code=403, json={"error": "refused by the target"})

    answer = gate.ask(ACTIVE, token)

    assert answer.status_code == 403
    assert answer.json["error"] == "Forbidden"
    assert len(gate.asked) == 1


def test_a_token_stops_working_when_it_expires(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN, STATS_CACHE_SECONDS="3600")
    token = ghost_token(exp=int(NOW.timestamp()) + 30)

    assert gate.ask(ACTIVE, token).status_code == 200
    gate.later(30)
    assert gate.ask(ACTIVE, token).status_code == 403
    assert len(gate.asked) == 1


def test_a_static_token_is_left_to_the_target_and_shares_with_nobody(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    gate.ask(f"{ACTIVE}?site_uuid={SITE}", ghost_token())
    gate.answers_with({"status_code": 403, "json": {"error": "invalid"}}, {"json": rows("static")})

    assert gate.ask(f"{ACTIVE}?site_uuid={SITE}", "p.no-such-token").status_code == 403
    assert gate.ask(f"{ACTIVE}?site_uuid={SITE}", STATIC).json == rows("static")


@pytest.mark.parametrize("head", [b"[" * 5000, b"[]", b"\xff", b'{"alg":"HS256"'])
def test_what_only_looks_like_ghosts_token_is_left_to_the_target(gateway: Any, head: bytes) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    gate.ask(ACTIVE, ghost_token())
    gate.answers_with(status_code=403, json={"error": "invalid"})

    assert gate.ask(ACTIVE, f"{jwt.utils.base64url_encode(head).decode()}.{part(CLAIMS)}.c2ln").status_code == 403


def test_a_token_whose_scopes_differ_about_a_pipe_shares_with_nobody(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    scopes = [
        {"type": "PIPES:READ", "resource": "api_active_visitors", "fixed_params": {"site_uuid": site}}
        for site in (SITE, OTHER_SITE)
    ]
    gate.ask(ACTIVE, ghost_token())
    gate.answers_with(json=rows("undecided"))

    assert gate.ask(ACTIVE, ghost_token(scopes=scopes)).json == rows("undecided")
    assert gate.ask(ACTIVE, ghost_token()).json == rows(1)


def test_what_the_target_no_longer_shows_is_not_shown_from_memory(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with({"json": rows(1)}, {"status_code": 403, "json": {"error": "revoked"}}, {"status_code": 500})

    statuses = []
    for _ in range(3):
        statuses.append(gate.ask().status_code)
        gate.later(61)

    assert statuses == [200, 403, 500]


# -- a target that fails

FAILURES = [
    ({"status_code": 500, "json": {"error": "no"}}, 500),
    ({"status_code": 503, "text": "no"}, 503),
    ({"status_code": 429, "json": {"error": "quota"}}, 429),
    ({"status_code": 408, "json": {"error": "slow query"}}, 408),
    ({"exc": requests.exceptions.ConnectTimeout}, 504),
    ({"exc": requests.exceptions.ReadTimeout}, 504),
    ({"exc": requests.exceptions.ConnectionError("ReadTimeoutError")}, 504),
    ({"exc": requests.exceptions.ConnectionError("NewConnectionError")}, 502),
]


@pytest.mark.parametrize(("failure", "status"), FAILURES)
def test_a_failure_is_answered_from_the_last_good_answer_for_an_hour(
    gateway: Any, failure: dict[str, Any], status: int
) -> None:
    gate = gateway()
    gate.ask()
    gate.answers_with(failure)

    gate.later(61)
    first = gate.ask()
    gate.later(3538)
    last = gate.ask()
    gate.later(1)
    too_late = gate.ask()

    for answer, age in ((first, "61"), (last, "3599")):
        assert (answer.status_code, answer.json) == (200, rows(1))
        assert answer.headers["x-traffic-analytics-stale"] == age
        assert "x-traffic-analytics-stale" in answer.headers["access-control-expose-headers"]
    assert too_late.status_code == status
    assert too_late.json["error"]
    assert too_late.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("failure", "status"), FAILURES)
def test_a_failure_without_a_good_answer_is_told_in_json_and_not_repeated_at_once(
    gateway: Any, failure: dict[str, Any], status: int
) -> None:
    gate = gateway()
    gate.answers_with(failure)

    first = gate.ask()
    count = len(gate.asked)
    gate.later(9)
    second = gate.ask()

    assert (first.status_code, second.status_code) == (status, status)
    assert first.json["error"] == second.json["error"]
    assert (first.headers["retry-after"], second.headers["retry-after"]) == ("10", "1")
    assert len(gate.asked) == count
    gate.answers_with(json=rows(5))
    gate.later(1)
    assert gate.ask().json == rows(5)


def test_a_kept_connection_that_was_closed_meanwhile_is_not_a_failure(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with({"exc": requests.exceptions.ConnectionError("ProtocolError")}, {"json": rows(4)})

    assert gate.ask().json == rows(4)


def test_a_target_that_says_when_is_not_asked_anything_before(gateway: Any) -> None:
    gate = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    gate.ask(ACTIVE, ghost_token())
    gate.later(61)
    gate.answers_with(status_code=429, headers={"Retry-After": "1800"}, json={"error": "quota"})
    gate.ask(ACTIVE, ghost_token())
    count = len(gate.asked)

    another_worker = Gateway(gate.service)
    for _ in range(29):
        gate.later(60)
        assert "x-traffic-analytics-stale" in gate.ask(ACTIVE, ghost_token()).headers
        other_question = another_worker.ask("/v0/pipes/api_kpis.json", ghost_token())
        assert other_question.status_code == 429
        assert int(other_question.headers["retry-after"]) > 0
    assert len(gate.asked) == count
    gate.later(60)
    assert "x-traffic-analytics-stale" not in gate.ask(ACTIVE, ghost_token()).headers
    assert len(gate.asked) == count + 1


def test_one_tokens_limit_does_not_pause_another_whose_workspace_may_differ(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with({"status_code": 429, "headers": {"Retry-After": "60"}, "json": {"error": "q"}}, {"json": rows(2)})

    assert gate.ask(token="mine").status_code == 429
    assert gate.ask(token="yours").status_code == 200


def test_logs_tell_of_failures_without_tokens_or_questions(gateway: Any, caplog: Any) -> None:
    gate = gateway()
    logging.getLogger("traffic_analytics").addHandler(caplog.handler)
    try:
        gate.ask(f"{ACTIVE}?token={STATIC}&pathname=/private/", token=None)
        gate.later(61)
        gate.answers_with(exc=requests.exceptions.ConnectionError(f"refused {STATIC}"))
        gate.ask(f"{ACTIVE}?token={STATIC}&pathname=/private/", token=None)
    finally:
        logging.getLogger("traffic_analytics").removeHandler(caplog.handler)

    said = [str(vars(record)) for record in caplog.records]
    assert {getattr(record, "event", "") for record in caplog.records} == {"StatisticsFailed", "StatisticsStale"}
    assert not any(STATIC in each or "private" in each for each in said)


# -- how much is asked

DAY = 86_400


def day_of_polls(seconds: float, tabs: int) -> list[tuple[float, int]]:
    """Say when each tab asks: once a minute, each at its own second, a little late as browsers are."""
    return sorted(
        (start + 60 * n + (n * 7 % 5) / 100, tab)
        for tab, start in enumerate(range(0, 60, 60 // tabs))
        for n in range(int(seconds / 60))
    )


@pytest.mark.parametrize(("cache_seconds", "tabs", "most"), [(60, 4, 1440), (300, 2, 288)])
def test_the_tabs_of_two_admins_cost_at_most_one_query_per_cache_time_whatever_worker_they_meet(
    gateway: Any, cache_seconds: int, tabs: int, most: int
) -> None:
    workers = [
        gateway(TINYBIRD_ADMIN_TOKEN=ADMIN, STATS_CACHE_SECONDS=str(cache_seconds), LOG_LEVEL="silent")
        for _ in range(3)
    ]
    polls = day_of_polls(DAY, tabs)

    for n, (at, tab) in enumerate(polls):
        worker = workers[n % 3]
        worker.service.now = NOW + timedelta(seconds=at)
        admin, session = tab % 2, int(at // (3 * 3600))  # Ghost's tokens live for three hours
        expiry = int(NOW.timestamp()) + (session + 1) * 3 * 3600 + 60
        answer = worker.ask(f"{ACTIVE}?site_uuid={SITE}&ghost_client=admin", ghost_token(name=str(admin), exp=expiry))
        assert answer.status_code == 200

    assert len(polls) == tabs * 1440
    assert most / 2 <= len(workers[0].asked) <= most


def test_one_tab_polling_at_the_cache_time_itself_costs_no_more_than_its_polls_without_the_admin_token(
    gateway: Any,
) -> None:
    workers = [gateway(LOG_LEVEL="silent") for _ in range(2)]

    for n, (at, _) in enumerate(day_of_polls(DAY, tabs=1)):
        worker = workers[n % 2]
        worker.service.now = NOW + timedelta(seconds=at)
        worker.ask(ACTIVE, token=f"session-{int(at // (3 * 3600))}")

    assert len(workers[0].asked) <= 1440


def test_identical_questions_in_flight_are_asked_once(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, TINYBIRD_ADMIN_TOKEN=ADMIN, THREADS="16")
    token = ghost_token(exp=time.time() + 60)  # noqa: TID251
    answers: list[Any] = []

    def ask(n: int) -> None:
        answers.append(
            app.test_client().get(f"{ACTIVE}?ghost_client={n}", headers={"Authorization": f"Bearer {token}"})
        )

    threads = [threading.Thread(target=ask, args=[n]) for n in range(12)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(target.paths) == 1)
    time.sleep(0.2)
    target.go.set()
    for thread in threads:
        thread.join(10)

    assert [answer.json for answer in answers] == [rows(7)] * 12
    assert len(target.paths) == 1


def test_with_caching_off_identical_questions_in_flight_are_still_asked_once(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, STATS_CACHE_SECONDS="0")
    answers: list[Any] = []

    def ask() -> None:
        answers.append(app.test_client().get(ACTIVE, headers={"Authorization": f"Bearer {STATIC}"}))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(target.paths) == 1)
    time.sleep(0.2)
    target.go.set()
    for thread in threads:
        thread.join(10)

    assert [answer.json for answer in answers] == [rows(7)] * 6
    assert len(target.paths) == 1


def ask_in_a_process(url: str, data_dir: Path, barrier: Any, results: Any) -> None:
    app = app_for(url, data_dir)
    barrier.wait(30)
    answer = app.test_client().get(ACTIVE, headers={"Authorization": f"Bearer {STATIC}"})
    results.put((answer.status_code, answer.json))


def test_processes_that_ask_the_same_at_once_ask_it_once(target: Target, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(3), spawn.Queue()
    processes = [
        spawn.Process(target=ask_in_a_process, args=[target.url, tmp_path, barrier, results]) for _ in range(2)
    ]
    for process in processes:
        process.start()
    barrier.wait(30)
    eventually(lambda: len(target.paths) >= 1)
    time.sleep(0.3)
    target.go.set()
    answers = [results.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(10)

    assert answers == [(200, rows(7))] * 2
    assert len(target.paths) == 1


def test_a_worker_overtaken_on_its_way_to_the_target_takes_the_answer_that_is_there(
    cache: Callable[[], AnswerCache], clock: Clock
) -> None:
    asked: list[str] = []

    class Once:
        def get(self, question: Any, token: str) -> Reply:
            asked.append(token)
            return Reply(200, token.encode(), "")

    def worker(cache: AnswerCache) -> Statistics:
        slots = threading.Semaphore(1)
        return Statistics(
            Once(),  # type: ignore[arg-type]
            cache,
            SingleFlight(),
            access_of=lambda *_: Access("all", "all"),
            slots=slots,
            fresh_for=60,
            realm="",
            clock=clock,
            sleep=lambda _: None,
        )

    fast, slow = worker(cache()), cache()
    claim = slow.claim
    slow.claim = lambda *args: bool(fast.answer("p.json", "", "Bearer fast")) and claim(*args)  # type: ignore[method-assign]

    assert worker(slow).answer("p.json", "", "Bearer slow").body == b"fast"
    assert asked == ["fast"]


def test_a_refusal_of_anothers_token_is_not_ours(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, TINYBIRD_ADMIN_TOKEN=ADMIN)
    target.answer = (403, b'{"error":"no"}')
    tokens = [ghost_token(exp=time.time() + 60, name=str(n)) for n in range(3)]  # noqa: TID251
    answers: list[int] = []

    def ask(token: str) -> None:
        answers.append(app.test_client().get(ACTIVE, headers={"Authorization": f"Bearer {token}"}).status_code)

    threads = [threading.Thread(target=ask, args=[token]) for token in tokens]
    for thread in threads:
        thread.start()
    eventually(lambda: len(target.paths) == 1)
    time.sleep(0.1)
    target.go.set()
    for thread in threads:
        thread.join(10)

    assert answers == [403] * 3
    assert len(target.paths) == 3


def test_a_slow_target_never_takes_the_threads_that_hits_need(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, THREADS="4")
    answers: list[int] = []

    def ask(n: int) -> None:
        headers = {"Authorization": f"Bearer {STATIC}"}
        answers.append(app.test_client().get(f"{ACTIVE}?n={n}", headers=headers).status_code)

    threads = [threading.Thread(target=ask, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(target.paths) == 3)
    ask(3)  # the fourth does not wait

    assert answers == [503]
    target.go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [200, 200, 200, 503]
    ask(4)
    assert answers[-1] == 200


# -- the parts


def test_a_claim_is_one_processs_until_it_is_released_or_runs_out(cache: Any, clock: Clock) -> None:
    mine, theirs = cache(), cache()

    assert mine.claim(b"k", 30)
    assert not theirs.claim(b"k", 30)
    assert theirs.claim(b"another", 30)
    mine.forget(b"k")
    assert theirs.claim(b"k", 30)
    clock.now += 30
    assert mine.claim(b"k", 30)


def test_the_file_is_bounded_and_the_oldest_makes_room(cache: Any, clock: Clock, tmp_path: Path) -> None:
    one, body = cache(), b"x" * (LARGEST // 2)
    count = 2 * FILE_BYTES // LARGEST + 10
    for n in range(count):
        clock.now += 1
        one.put(b"%d" % n, Kept(clock.now, clock.now + 3600, 200, body))

    fresh = cache()
    assert fresh.get(b"%d" % (count - 1)) is not None
    assert fresh.get(b"0") is None
    with sqlite3.connect(tmp_path / "s.sqlite3") as connection:
        assert connection.execute("SELECT sum(length(body)) FROM kept").fetchone()[0] <= FILE_BYTES
    connection.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1.5 * FILE_BYTES


def test_an_answer_too_large_is_given_but_not_kept(gateway: Any) -> None:
    gate = gateway()
    gate.answers_with(json=rows("x" * LARGEST))

    assert gate.ask().json == gate.ask().json
    assert len(gate.asked) == 2


def test_a_clock_set_back_does_not_keep_anything_for_longer(cache: Any, clock: Clock) -> None:
    mine, theirs = cache(), cache()
    mine.put(b"k", Kept(clock.now, clock.now + 3600, 200, b"{}"))
    mine.claim(b"c", 30)
    clock.now -= 100

    assert mine.get(b"k") is None
    assert theirs.get(b"k") is None
    assert theirs.claim(b"c", 30)


def test_a_file_that_cannot_be_used_costs_questions_but_no_answers(gateway: Any, tmp_path: Path) -> None:
    gate = gateway()
    for file in tmp_path.glob("statistics.sqlite3*"):
        file.unlink()

    assert gate.ask().status_code == 200
    assert gate.ask().status_code == 200
    assert len(gate.asked) == 1


def test_a_failure_in_flight_reaches_everybody_who_waits() -> None:
    flights: SingleFlight[int] = SingleFlight()
    begun, go = threading.Event(), threading.Event()
    failed: list[str] = []

    def fail() -> int:
        begun.set()
        go.wait(5)
        raise ArithmeticError

    def ask() -> None:
        try:
            flights.share("k", fail, 5)
        except ArithmeticError:
            failed.append("yes")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(5)
    time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join(5)

    assert failed == ["yes"] * 3
    assert flights.share("k", lambda: 1, 5) == (1, True)


# -- settings


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://api.tinybird.co", "https://api.tinybird.co"),
        ("https://api.tinybird.co/", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0/events", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0/pipes/", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0", "https://api.tinybird.co"),
        ("http://127.0.0.1:7181", "http://127.0.0.1:7181"),
        ("https://proxy.example/tinybird/v0/pipes", "https://proxy.example/tinybird"),
    ],
)
def test_stats_target_is_understood_however_tinybird_shows_it(text: str, target: str) -> None:
    assert Settings.from_env({"PROXY_TARGET": TARGET, "STATS_TARGET": text}).stats_target == target


@pytest.mark.parametrize(
    "text", ["api.tinybird.co", "ftp://a", "https://api.tinybird.co/v0/pipes/api_kpis.json", "https://a.b?token=x"]
)
def test_a_stats_target_that_cannot_be_one_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STATS_TARGET: must be"):
        Settings.from_env({"PROXY_TARGET": TARGET, "STATS_TARGET": text})


def test_the_admin_token_needs_pyjwt_and_never_shows(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    environment = {"PROXY_TARGET": TARGET, "TINYBIRD_ADMIN_TOKEN": ADMIN}

    Settings.from_env(environment)  # it serves nothing here, and ghost-docker's .env has it anyway
    with pytest.raises(ConfigurationError, match="needs PyJWT"):
        Settings.from_env({**environment, "STATS_TARGET": STATS})
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"PROXY_TARGET": TARGET, "TINYBIRD_ADMIN_TOKEN": "not a token"})
    assert "not a token" not in str(refused.value)
