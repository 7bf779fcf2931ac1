from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.gateway import ACTIVE

if TYPE_CHECKING:
    from tests.support.gateway import StartGateway


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
