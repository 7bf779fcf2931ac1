from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import ACTIVE
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT

if TYPE_CHECKING:
    from tests.support.gateway import StartGateway

FORM = "application/x-www-form-urlencoded"


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
def test_only_pipes_by_name_are_passed_on(gateway: StartGateway, path: str) -> None:
    dashboard = gateway()

    response = dashboard.query(path)

    assert response.status_code in (404, 308)
    assert dashboard.requests == []


def test_too_many_parameters_are_400(gateway: StartGateway) -> None:
    assert gateway().query(ACTIVE + "?" + "&".join(f"a{n}=1" for n in range(101))).status_code == 400


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
def test_equal_queries_share_a_response_in_every_spelling(
    gateway: StartGateway, one: str, other: str, same: bool
) -> None:
    dashboard = gateway()

    dashboard.query(f"{ACTIVE}?{one}")
    dashboard.query(f"{ACTIVE}?{other}")

    assert len(dashboard.requests) == (1 if same else 2)


def test_another_pipe_is_another_query(gateway: StartGateway) -> None:
    dashboard = gateway()

    dashboard.query("/v0/pipes/api_kpis.json")
    dashboard.query("/v0/pipes/api_kpis_v2.json")

    assert len(dashboard.requests) == 2


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {"data": {"site_uuid": "s", "source": "", "post_uuids": "a,b"}}),
        ("", {"json": {"site_uuid": "s", "source": "", "post_uuids": ["a", "b"], "limit": None}}),
        ("?site_uuid=s&source=", {"json": {"site_uuid": "t", "source": "t", "post_uuids": "a,b"}}),
        ("?site_uuid=s&source=&post_uuids=a,b", {}),
        ("?site_uuid=s", {"data": "source=&source=t&post_uuids=a,b", "content_type": FORM}),
    ],
)
def test_parameters_may_be_in_the_body_and_the_url_outranks_it(
    gateway: StartGateway, prefix: str, query: str, body: dict[str, Any]
) -> None:
    dashboard = gateway()

    response = dashboard.service.client.post(f"{prefix}{ACTIVE}{query}", headers={"Authorization": "Bearer x"}, **body)

    assert response.status_code == 200
    (request,) = dashboard.requests
    assert request.url.partition("?")[2] == "post_uuids=a%2Cb&site_uuid=s&source="


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"a": {}}', "application/json"),
        (b'{"a": [[]]}', "application/json"),
        (b"[" * 30_000, "application/json"),
        (b"&".join(b"a%d=1" % n for n in range(101)), FORM),
        (b"{%s}" % b",".join(b'"a%d":1' % n for n in range(101)), "application/json"),
    ],
)
def test_a_body_that_holds_no_parameters_is_400(gateway: StartGateway, body: bytes, content_type: str) -> None:
    dashboard = gateway()

    response = dashboard.service.client.post(
        ACTIVE, data=body, content_type=content_type, headers={"Authorization": "Bearer x"}
    )

    assert (response.status_code, dashboard.requests) == (400, [])


def test_a_body_that_is_too_long_is_413(gateway: StartGateway) -> None:
    response = gateway().service.client.post(ACTIVE, data={"a": "x" * PARAMETERS_LIMIT})

    assert response.status_code == 413
