from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from analytics_store.settings import Settings as StoreSettings
from analytics_store.wiring import create_app as open_store
from tests.support.app import NOW, OTHER_SITE, SITE, TARGET
from tests.support.gateway import ACTIVE, STATIC, STATS, Target, app_for, ghost_token, query_together, rows
from tests.support.tokens import ADMIN, CASES, PIPE, QUERY, Case, claims, fixed, scope, sign
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.gateway import StartGateway


def test_a_token_in_the_query_is_sent_to_the_target_in_the_header(gateway: StartGateway) -> None:
    dashboard = gateway()

    response = dashboard.query(f"{ACTIVE}?token={STATIC}&site_uuid={SITE}", token=None)

    assert response.status_code == 200
    assert dashboard.requests[0].headers["Authorization"] == f"Bearer {STATIC}"
    assert "token" not in dashboard.requests[0].url


@pytest.mark.parametrize("token", [None, "", "with blank", "sch\u00f6n", "x" * 8001])
def test_without_a_well_formed_token_the_target_is_not_queried(gateway: StartGateway, token: str | None) -> None:
    dashboard = gateway()

    response = dashboard.query(token=token)

    assert (response.status_code, response.json["error"]) == (403, "Forbidden")
    assert response.headers["access-control-allow-origin"] == "*"
    assert dashboard.requests == []


def test_without_the_admin_token_each_token_has_its_own_responses(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with({"json": rows("mine")}, {"json": rows("yours")})

    mine, yours, mine_again = (
        dashboard.query(token="mine"),
        dashboard.query(token="yours"),
        dashboard.query(token="mine"),
    )

    assert [a.json for a in (mine, yours, mine_again)] == [rows("mine"), rows("yours"), rows("mine")]


def test_tokens_that_agree_in_all_scopes_share_responses(gateway: StartGateway) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    tokens = [
        claims(scope(), scope("api_kpis")),
        claims(scope("api_kpis"), scope()),
        claims(scope(), scope("api_kpis"), scope()),
        claims(scope(), scope("api_kpis"), name="another", exp=int(NOW.timestamp()) + 60),
    ]

    statuses = [dashboard.query(f"/v0/pipes/{PIPE}.json", sign(token)).status_code for token in tokens]

    assert statuses == [200] * len(tokens)
    assert len(dashboard.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        claims(fixed({"site_uuid": OTHER_SITE})),
        claims(fixed({})),
        claims(scope(), scope("api_kpis")),
        claims(scope(f"{PIPE}_v2")),
        claims(scope(), fixed({"site_uuid": OTHER_SITE}, f"{PIPE}_v2")),
        claims(scope(), {"type": "DATASOURCES:READ", "resource": "analytics_events", "filter": "1"}),
    ],
    ids=[
        "of another site",
        "of all sites",
        "of one more pipe",
        "of the other version",
        "of another site for the other version",
        "of a data source as well",
    ],
)
def test_tokens_that_differ_in_any_scope_share_no_response(gateway: StartGateway, other: dict[str, object]) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)

    for token in (claims(scope()), other, claims(scope()), other):
        assert dashboard.query(f"/v0/pipes/{PIPE}.json?site_uuid={SITE}", sign(token)).status_code == 200

    assert len(dashboard.requests) == 2


def test_fixed_parameters_of_a_token_replace_those_of_the_request(gateway: StartGateway) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    by_site = {SITE: rows("mine"), OTHER_SITE: rows("theirs")}
    dashboard.respond_with(json=lambda request, _: by_site[request.qs["site_uuid"][0]])
    dashboard.query(f"{ACTIVE}?site_uuid={OTHER_SITE}", ghost_token(site=OTHER_SITE))

    forged = [
        f"site_uuid={OTHER_SITE}",
        f"site_uuid={OTHER_SITE}&site_uuid={SITE}",
        f"site_uuid={SITE}&site_uuid={OTHER_SITE}",
        f"site%5Fuuid={OTHER_SITE}",
        f"site_uuid={SITE}",
        "",
    ]
    responses = [dashboard.query(f"{ACTIVE}?{query}", ghost_token()).json for query in forged]

    assert responses == [rows("mine")] * len(forged)
    assert [parse_qs(each.query)["site_uuid"] for each in dashboard.requests] == [[OTHER_SITE], [SITE]]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_gateway_gives_each_token_its_verdict(gateway: StartGateway, case: Case) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    dashboard.query(f"/v0/pipes/{PIPE}.json?{QUERY}", sign(claims()))  # a response to give away by mistake
    if not case.is_jwt:
        dashboard.respond_with(status_code=403, json={"error": "refused by the target"})

    response = dashboard.query(f"/v0/pipes/{PIPE}.json?{QUERY}", case.token)

    assert response.status_code == (403 if case.site is None else 200)
    queries = dashboard.requests[1:]
    if not case.is_jwt:
        assert len(queries) == 1
    elif case.site is None:
        assert queries == []
    else:
        assert parse_qs(dashboard.requests[-1].query)["site_uuid"] == [case.site]


@pytest.mark.parametrize(
    ("authorization", "query", "status"),
    [
        ("Bearer {}", "", 200),
        ("bearer  {} ", "", 200),
        ("Bearer {}", "&token=something", 200),
        ("Basic eDp5", "&token={}", 200),
        (None, "&token={}", 200),
        (None, "&token={}&token=something", 200),
        ("Bearer ", "&token={}", 403),
        ("Bearer something", "&token={}", 403),
        (None, "&token=&token={}", 403),
        (None, "&token=something&token={}", 403),
        ("{}", "", 403),
    ],
)
def test_gateway_and_store_find_the_same_token(
    gateway: StartGateway, tmp_path: Path, authorization: str | None, query: str, status: int
) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    dashboard.respond_with(status_code=403, json={"error": "refused by the target"})
    dashboard.target.get(f"{STATS}/v0/pipes/{PIPE}.json?site_uuid={SITE}", json=rows(1))
    store = open_store(StoreSettings(data_dir=tmp_path / "store", admin_token=ADMIN), clock=NOW.timestamp)
    headers = {} if authorization is None else {"Authorization": authorization.format(sign(claims()))}
    path = f"/v0/pipes/{PIPE}.json?{QUERY}{query.format(sign(claims()))}"

    statuses = [
        dashboard.query(path, token=None, headers=headers).status_code,
        store.test_client().get(path, headers=headers).status_code,
    ]
    store.extensions["store"].close()

    assert statuses == [status, status]


def test_a_token_stops_working_when_it_expires(gateway: StartGateway) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN, STATS_CACHE_SECONDS="3600")
    token = ghost_token(exp=int(NOW.timestamp()) + 30)

    assert dashboard.query(ACTIVE, token).status_code == 200
    dashboard.advance(30)
    assert dashboard.query(ACTIVE, token).status_code == 403
    assert len(dashboard.requests) == 1


def test_a_static_token_is_checked_by_the_target_and_shares_with_no_other(gateway: StartGateway) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    dashboard.query(f"{ACTIVE}?site_uuid={SITE}", ghost_token())
    dashboard.respond_with({"status_code": 403, "json": {"error": "invalid"}}, {"json": rows("static")})

    assert dashboard.query(f"{ACTIVE}?site_uuid={SITE}", "p.no-such-token").status_code == 403
    assert dashboard.query(f"{ACTIVE}?site_uuid={SITE}", STATIC).json == rows("static")


def test_a_response_that_the_target_now_refuses_is_not_given_from_the_cache(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with({"json": rows(1)}, {"status_code": 403, "json": {"error": "revoked"}}, {"status_code": 500})

    statuses = []
    for _ in range(3):
        statuses.append(dashboard.query().status_code)
        dashboard.advance(61)

    assert statuses == [200, 403, 500]


@pytest.mark.parametrize("admin_token", [ADMIN, ""], ids=["with", "without"])
def test_a_token_that_the_target_refused_for_a_pipe_is_refused_for_ten_seconds(
    gateway: StartGateway, admin_token: str
) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=admin_token)
    dashboard.respond_with(status_code=401, json={"error": "no such token"})

    responses = [dashboard.query(f"{ACTIVE}?n={n}", "p.refused") for n in range(5)]
    assert [(each.status_code, each.json) for each in responses] == [(401, {"error": "no such token"})] * 5
    assert len(dashboard.requests) == 1

    dashboard.respond_with(json=rows(2))
    dashboard.advance(9)
    assert dashboard.query(ACTIVE, "p.refused").status_code == 401
    assert dashboard.query("/v0/pipes/api_kpis.json", "p.refused").status_code == 200
    assert dashboard.query(ACTIVE, "p.refused-").status_code == 200
    dashboard.advance(1)
    assert dashboard.query(ACTIVE, "p.refused").json == rows(2)


def test_a_refusal_of_one_token_is_not_shared_with_another(target: Target, tmp_path: Path) -> None:
    app = app_for(target.url, tmp_path, TINYBIRD_ADMIN_TOKEN=ADMIN)
    target.response = (403, b'{"error":"no"}')
    tokens = [ghost_token(exp=time.time() + 60, name=str(n)) for n in range(3)]  # noqa: TID251

    responses = query_together(app, target, [(ACTIVE, token) for token in tokens])

    assert [response.status_code for response in responses] == [403] * 3
    assert len(target.paths) == 3


def test_the_admin_token_needs_pyjwt_and_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    environment = {"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "TINYBIRD_ADMIN_TOKEN": ADMIN}

    Settings.from_env(environment)  # it serves nothing here, and ghost-docker's .env has it anyway
    with pytest.raises(ConfigurationError, match="needs PyJWT"):
        Settings.from_env({**environment, "STATS_TARGET": STATS})
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env(
            {"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "TINYBIRD_ADMIN_TOKEN": "not a token"}
        )
    assert "not a token" not in str(refused.value)
