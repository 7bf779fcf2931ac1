"""Send hits that the operator does not want to count: own visits and referrer spam."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import FIREFOX, page_hit
from traffic_analytics.hits.own_visits import OwnVisits
from traffic_analytics.hits.referrer_spam import listed_hosts

OWN = "203.0.113.0/24, 198.51.100.7, 2001:db8:1::/48"


def is_counted(service: Any, *, address: str = "192.0.2.1", agent: str = FIREFOX, **payload: Any) -> bool:
    """Post a hit; return whether an event was sent. The response is the same either way."""
    before = len(service.events)
    answer = service.hit(page_hit(**payload), headers={"X-Forwarded-For": address, "User-Agent": agent})
    assert answer.status_code == 202
    assert "x-ghost-bot-detected" not in answer.headers
    counted = len(service.events) > before
    assert counted or answer.json == {"message": "Page hit event received"}
    return counted


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("203.0.113.0", True),
        ("203.0.113.255", True),
        ("203.0.113.9:50123", True),
        ("::ffff:203.0.113.9", True),
        ("[2001:DB8:1:0::5]:443", True),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("203.0.114.0", False),
        ("2001:db8:2::1", False),
        ("unknown", False),
    ],
)
def test_visits_from_own_addresses_are_not_counted(address: str, is_own: bool, start: Any) -> None:
    assert is_counted(start(IGNORE_ADDRESSES=OWN), address=address) is not is_own


def test_an_own_address_that_a_client_forges_is_not_believed_if_proxies_are_counted(start: Any) -> None:
    assert is_counted(start(IGNORE_ADDRESSES=OWN, TRUST_PROXY="1"), address="203.0.113.9, 192.0.2.1")


@pytest.mark.parametrize("peer", ["", "unix:", "1.2.3", "203.0.113.9.1", "203.0.113.x"])
def test_a_peer_that_is_no_address_is_no_own_visit(peer: str) -> None:
    assert OwnVisits([ip_network("203.0.113.0/24"), ip_network("::/16")], ()).find(peer, "/") is None


@pytest.mark.parametrize(
    ("paths", "pathname", "is_own"),
    [
        ("/p/*", "/p/2f3c/", True),
        ("/p/*", "/p/a/b/", True),
        ("/p/*", "/p", False),
        ("/p/*", "/blog/p/x/", False),
        ("/p/*, */p/*", "/blog/p/x/", True),
        ("/about/", "/about/", True),
        ("/about/", "/About/", False),
        ("/a.c/", "/abc/", False),
        ("/draft-[0-9]/", "/draft-7/", True),
        ("/p/*", "/" + "p/" * 4000 + "\u2028", True),
        ("*a*a*a*a*a*a*b", "/" + "a" * 8000, False),
    ],
)
def test_hits_of_ignored_paths_are_not_counted(paths: str, pathname: str, is_own: bool, start: Any) -> None:
    service = start(IGNORE_PATHS=paths)
    assert is_counted(service, pathname=pathname) is not is_own


@pytest.mark.parametrize(
    ("referrer", "is_spam"),
    [
        ({"url": "https://semalt.com/"}, True),
        ({"url": "https://semalt.com./"}, True),
        ({"url": "HTTP://www.SEMALT.com:80/crawler.php?u=x"}, True),
        ({"url": "semalt.com"}, True),
        ({"url": "https://холодныйобзвон.рф/"}, True),
        ({"url": "https://xn--80aaalabotqcfjdb2d0an.xn--p1ai/", "source": None}, False),
        ({"url": None, "source": "Semalt.com"}, True),
        ({"url": "https://example.org/", "source": "www.semalt.com"}, True),
        ({"url": "https://notsemalt.com/"}, False),
        ({"url": "https://semalt.com.example/"}, False),
        ({"url": "https://example.org/?to=semalt.com"}, False),
        ({"url": "https://com/"}, False),
        ({"url": "", "source": ""}, False),
        ({"url": "ghost-newsletter", "source": "semalt"}, False),
        ({"url": "https://" + "a." * 5000 + "com/"}, False),
        ({"url": "https://own.spam.example/x"}, True),
        ({"url": "https://good.spam.example/x"}, False),
        ({"url": "https://notgood.spam.example/x"}, True),
        ({"url": "https://www.Darodar.com/"}, False),
        ({"url": None, "source": "darodar.com"}, False),
        ({"url": "https://spam.darodar.com/"}, True),
        ({}, False),
    ],
)
def test_hits_whose_referrer_is_listed_are_not_counted(
    referrer: dict[str, Any], is_spam: bool, start: Any, tmp_path: Path
) -> None:
    (tmp_path / "referrers.txt").write_text("spam.example\n-good.spam.example\n-darodar.com\nspam.darodar.com\n")
    service = start(EXTRA_REFERRERS=str(tmp_path / "referrers.txt"))

    assert is_counted(service, parsedReferrer=referrer) is not is_spam


def test_hits_of_own_bots_are_not_counted(start: Any, tmp_path: Path) -> None:
    (tmp_path / "bots.txt").write_text("# ours\nIntranet-Check/\n")
    service = start(EXTRA_BOTS=str(tmp_path / "bots.txt"))

    assert not is_counted(service, agent=f"{FIREFOX} intranet-check/2")
    assert is_counted(service)


def test_nothing_is_ignored_by_default(service: Any) -> None:
    assert is_counted(service, address="127.0.0.1", pathname="/p/1/")


def test_no_log_record_and_no_event_names_an_own_address(start: Any, log: Any) -> None:
    service = start(IGNORE_ADDRESSES=OWN, LOG_LEVEL="trace")
    is_counted(service, address="203.0.113.9")

    assert "203.0.113" not in log.text


def test_the_list_of_spam_has_hosts_as_browsers_write_them() -> None:
    hosts = listed_hosts()

    assert len(hosts) > 200
    assert all(host == host.lower() and host.isascii() and "." in host for host in hosts)
    assert not hosts & {"google.com", "ghost.org", "facebook.com", "t.co", "duckduckgo.com"}
