"""Sites are allowed by a list, or new within a number."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.app import FIREFOX, OTHER_SITE, SITE, Log

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
UUID = "0fe04a48-1111-7222-f333-c106c06dff2e"


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
