"""Test hits from the service through the store and the gateway to the dashboard."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests

from tests.support.app import FIREFOX, OTHER_SITE, SITE, page_hit
from tests.support.browsers import TARGET, Load
from tests.support.embedded_store import ADMIN, EmbeddedStore, ask, ghost_token
from tests.support.fake_tinybird import Answer
from tests.support.processes import wait_until
from tests.support.running import running_with_store
from tests.support.service import Service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_tinybird import FakeTinybird, Request

pytestmark = pytest.mark.e2e

PIPES = ("api_kpis", "api_top_pages", "api_active_visitors")
CHECKING = [pytest.param(ADMIN, id="service checks tokens"), pytest.param("", id="store checks tokens")]


def send(service: Service, site: str, pathname: str, browser: str = FIREFOX, **fields: Any) -> None:
    response = requests.post(
        f"http://127.0.0.1:{service.port}{TARGET}",
        data=json.dumps(page_hit(site_uuid=site, pathname=pathname, **fields)),
        headers={"Content-Type": "application/json", "User-Agent": browser, "x-site-uuid": site},
        timeout=30,
    )
    assert response.ok, response.text


def pageviews(service: Service, site: str = SITE) -> int:
    response = ask(service.port, "api_kpis", ghost_token(site, "api_kpis"), site_uuid=site)
    return sum(row["pageviews"] for row in response.json()["data"])


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_an_accepted_hit_appears_in_the_dashboard(tmp_path: Path, delivery: str) -> None:
    token = ghost_token(SITE, *PIPES)
    with running_with_store(tmp_path, DELIVERY=delivery) as (service, _):
        for pathname in ("/", "/about/", "/about/"):
            send(service, SITE, pathname)
        send(service, SITE, "/about/", FIREFOX.replace("140.0", "139.0"))
        wait_until(lambda: pageviews(service) == 4)

        pages = ask(service.port, "api_top_pages", token, site_uuid=SITE).json()
        assert [(row["pathname"], row["visits"]) for row in pages["data"]] == [("/about/", 2), ("/", 1)]
        assert pages["rows"] == 2
        online = ask(service.port, "api_active_visitors_v2", token, site_uuid=SITE).json()
        assert online["data"] == [{"active_visitors": 2}]


class LossyProxy:
    """Proxy between service and store that loses every seventh response after the store has the events."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.lost: list[str] = []
        self._events = f"{store.url}/v0/events"

    def __call__(self, request: Request) -> Answer:
        """Pass a request on."""
        try:
            response = requests.post(
                self._events,
                params={"name": request.data_source},
                data=b"\n".join(request.lines),
                headers={"Authorization": request.headers["authorization"]},
                timeout=30,
            )
        except requests.RequestException:
            return Answer(send=lambda conversation, _: conversation.reset())
        if response.ok and (not self.lost or request.number % 7 == 0):
            self.lost += request.event_ids
            return Answer(send=lambda conversation, _: conversation.reset())
        return Answer(response.status_code, body=response.json())


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_hits_while_the_store_is_killed_again_and_again_count_exactly_once(
    tmp_path: Path, fake: FakeTinybird, delivery: str
) -> None:
    with running_with_store(tmp_path, DELIVERY=delivery, PROXY_TARGET=fake.url) as (service, store):
        proxy = LossyProxy(store)
        fake.fail(proxy)
        with Load(service.port, pause=0.005) as load:
            for _ in range(3):
                load.wait_for_more(100)
                store.kill()
                wait_until(lambda: service.waiting() > 20, 20)
                time.sleep(0.5)
                store.start()
        accepted = load.accepted()
        assert {each.status for each in load.outcomes} == {202}
        wait_until(lambda: service.waiting() == 0, 90)

        stored = store.event_ids()
        print(f"{delivery}: {len(accepted)} accepted, {len(proxy.lost)} of them sent again")
        assert proxy.lost
        assert len(stored) == len(set(stored))
        assert set(stored) == accepted
        assert pageviews(service) == len(accepted)


def test_500_posts_are_counted_whether_the_url_or_a_body_lists_them(tmp_path: Path) -> None:
    posts = [str(uuid4()) for _ in range(499)]
    token = ghost_token(SITE, "api_post_visitor_counts")
    with running_with_store(tmp_path, TINYBIRD_WAIT="true") as (service, store):
        send(service, SITE, "/", post_uuid=(read := str(uuid4())))
        parameters = {"site_uuid": SITE, "post_uuids": ",".join([*posts, read])}
        too_many = parameters | {"post_uuids": ",".join(posts * 2)}

        for host in (store.url, f"http://127.0.0.1:{service.port}/.ghost/analytics"):
            query = partial(
                requests.request,
                url=f"{host}/v0/pipes/api_post_visitor_counts.json",
                headers={"Authorization": f"Bearer {token}"},
                timeout=30,
            )
            responses = [
                query("GET", params=parameters),
                query("POST", data=parameters),
                query("POST", json=parameters),
                query("POST", json=parameters | {"post_uuids": [*posts, read]}),
            ]
            wanted = [{"post_uuid": read, "visits": 1}]
            assert [(each.status_code, each.json().get("data")) for each in responses] == [(200, wanted)] * 4
            assert query("GET", params=too_many).status_code == 414
            assert query("POST", data=too_many).status_code == 413


@pytest.mark.parametrize("admin", CHECKING)
def test_a_token_that_is_wrong_or_expired_is_answered_403(tmp_path: Path, admin: str) -> None:
    refused = {
        "signed with another secret": ghost_token(SITE, "api_kpis", secret="p.another-admin-token"),
        "expired": ghost_token(SITE, "api_kpis", expires_in=-1),
        "for another pipe": ghost_token(SITE, "api_top_pages"),
        "cut off": ghost_token(SITE, "api_kpis")[:-3],
        "not a JWT": "p.not-a-token",
    }
    with running_with_store(tmp_path, TINYBIRD_ADMIN_TOKEN=admin, TINYBIRD_WAIT="true") as (service, _):
        send(service, SITE, "/")
        assert pageviews(service) == 1

        responses = {name: ask(service.port, "api_kpis", token, site_uuid=SITE) for name, token in refused.items()}
        assert {name: response.status_code for name, response in responses.items()} == dict.fromkeys(refused, 403)
        assert all("error" in response.json() and "data" not in response.json() for response in responses.values())


@pytest.mark.parametrize("cache", ["0", "60"])
@pytest.mark.parametrize("admin", CHECKING)
def test_a_token_of_one_site_cannot_read_another_site(tmp_path: Path, admin: str, cache: str) -> None:
    settings = {"TINYBIRD_ADMIN_TOKEN": admin, "STATS_CACHE_SECONDS": cache, "TINYBIRD_WAIT": "true"}
    with running_with_store(tmp_path, **settings) as (service, _):
        for pathname in ("/first/", "/second/"):
            send(service, SITE, pathname)
        send(service, OTHER_SITE, "/other/")
        other_token = ghost_token(OTHER_SITE, *PIPES)
        tries: tuple[dict[str, str | list[str]], ...] = (
            {"site_uuid": OTHER_SITE},
            {"site_uuid": SITE},
            {"site_uuid": [OTHER_SITE, SITE]},
            {"site_uuid": [SITE, OTHER_SITE]},
            {"site_uuid": f"{OTHER_SITE},{SITE}"},
            {"site_uuid": f"{OTHER_SITE}' OR '1'='1"},
            {"site_uuid": ""},
            {"SITE_UUID": SITE},
            {},
        )
        # Read the first site's dashboard before, so that its responses are in the cache.
        assert len(ask(service.port, "api_top_pages", ghost_token(SITE, *PIPES), site_uuid=SITE).json()["data"]) == 2

        for parameters in tries:
            for pipe in ("api_top_pages", "api_top_pages_v2"):
                response = ask(service.port, pipe, other_token, **parameters)
                assert [row["pathname"] for row in response.json()["data"]] == ["/other/"], (pipe, parameters)
