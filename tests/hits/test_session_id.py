"""A session identifier is derived from site, day, address and user agent."""

from __future__ import annotations

import hashlib
import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from tests.support.app import FIREFOX, NOW, SITE, page_hit
from traffic_analytics.hits.visitor import MAX_ENTRIES, read_address

UUID = "0fe04a48-1111-7222-F333-c106c06dff2e"
HIT = "/api/v1/page_hit?name=analytics_events"


@pytest.mark.parametrize(
    ("trust", "forwarded", "address"),
    [
        ("", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("true", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("true", "198.51.100.1", "198.51.100.1"),
        ("true", "2001:db8::1,10.0.0.1", "2001:db8::1"),
        ("true", None, "192.0.2.7"),
        ("false", "198.51.100.1, 203.0.113.5, 10.0.0.1", "192.0.2.7"),
        ("0", "198.51.100.1, 203.0.113.5, 10.0.0.1", "192.0.2.7"),
        ("1", "198.51.100.1, 203.0.113.5, 10.0.0.1", "10.0.0.1"),
        ("2", "198.51.100.1, 203.0.113.5, 10.0.0.1", "203.0.113.5"),
        ("3", "198.51.100.1, 203.0.113.5, 10.0.0.1", "198.51.100.1"),
        ("2", "198.51.100.1,203.0.113.5,10.0.0.1", "203.0.113.5"),
        ("2", "198.51.100.1", "198.51.100.1"),
        ("2", None, "192.0.2.7"),
        ("true", "unknown, 203.0.113.5:50123", "203.0.113.5"),
        ("true", ", ,_hidden,words here,[2001:DB8::7]:443", "2001:db8::7"),
        ("true", "unknown, _hidden", "192.0.2.7"),
        ("true", "", "192.0.2.7"),
        ("2", "198.51.100.1, unknown, 203.0.113.5", "203.0.113.5"),
        ("2", "198.51.100.1, unknown, unknown", "192.0.2.7"),
        ("3", "198.51.100.9, for=unknown, , 203.0.113.5", "203.0.113.5"),
        ("1", "198.51.100.1, unknown", "192.0.2.7"),
        ("3", "unknown, 203.0.113.5", "203.0.113.5"),
        ("true", "x," * MAX_ENTRIES + "203.0.113.5", "192.0.2.7"),
    ],
)
def test_the_session_id_uses_the_address_from_trusted_proxies(
    trust: str, forwarded: str | None, address: str, start: Any
) -> None:
    service = start(TRUST_PROXY=trust)

    service.hit(headers={"X-Forwarded-For": forwarded}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})

    salt = service.salts.get_or_create(SITE, NOW.date())
    assert re.fullmatch("[0-9a-f]{64}", salt)
    expected = hashlib.sha256(f"{salt}:{SITE}:{address}:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("198.51.100.7:50123", "198.51.100.7"),
        ("198.51.100.7:", "198.51.100.7"),
        ("198.51.100.7:_port", "198.51.100.7"),
        ("[198.51.100.7]:80", "198.51.100.7"),
        ('"198.51.100.7"', "198.51.100.7"),
        ("'198.51.100.7:80'", "198.51.100.7"),
        ("198.051.100.007", "198.51.100.7"),
        ("000.000.000.000", "0.0.0.0"),
        ("\t198.51.100.7 ", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::FFFF:c633:6407", "198.51.100.7"),
        ("0:0:0:0:0:ffff:198.051.100.007", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:50123", "198.51.100.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("2001:0db8:0000:0000:0000:0000:0000:0007", "2001:db8::7"),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ('"[2001:db8::7]:443"', "2001:db8::7"),
        ("2001:db8::7:50123", "2001:db8::7"),
        ("2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2:3:4:5:6"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ("fe80::1%eth0", "fe80::1"),
        ("[FE80::1%25eth0]:80", "fe80::1"),
        ("for=198.51.100.7", "198.51.100.7"),
        ("For=198.51.100.7:80;proto=https", "198.51.100.7"),
        ('proto=https; by=203.0.113.1; for="[2001:DB8::7]:4711"', "2001:db8::7"),
    ],
)
def test_every_spelling_of_an_address_is_the_same_visitor(spelling: str, address: str, start: Any) -> None:
    service = start(TRUST_PROXY="true")

    service.hit(headers={"X-Forwarded-For": spelling}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    service.hit(headers={"X-Forwarded-For": address}, environ_overrides={"REMOTE_ADDR": "192.0.2.8"})
    service.hit(environ_overrides={"REMOTE_ADDR": spelling})

    assert len({event["session_id"] for event in service.events}) == 1
    salt = service.salts.get_or_create(SITE, NOW.date())
    expected = hashlib.sha256(f"{salt}:{SITE}:{address}:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected


@pytest.mark.parametrize(
    "words",
    [
        *("", " ", "unknown", "_hidden", "_hidden:80", "-", "localhost", "blog.example", "a:b", "[]", "[:]:80", "for="),
        *("1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4:words", "0x7f.0.0.1", "0001.2.3.4", "1.2.3.4/32"),
        *(
            "http://1.2.3.4/",
            "\u00b2.1.1.1",
            "for=;for=x",
            "1::2::3",
            "1:2:3:4:5:6:7",
            "::g",
            "1.2.3.4" + " " * 300 + "x",
        ),
    ],
)
def test_words_are_no_address(words: str) -> None:
    assert read_address(words) is None


@given(st.ip_addresses())
@example(ip_address("::"))
@example(ip_address("2001:db8::"))
def test_a_plain_address_is_read_as_it_was_written(address: IPv4Address | IPv6Address) -> None:
    plain = str(getattr(address, "ipv4_mapped", None) or address)

    assert read_address(plain) == plain
    assert read_address(f"[{address.exploded.upper()}%1]:65535") == plain


@given(st.text(st.characters(max_codepoint=255), max_size=60) | st.text("0123456789abcdef:.%[]=;_ ", max_size=60))
def test_what_is_read_as_an_address_is_one_in_its_one_spelling(text: str) -> None:
    address = read_address(text)

    assert address is None or (str(ip_address(address)) == address == read_address(address))


def test_lines_of_a_repeated_header_are_one_list(start: Any) -> None:
    service = start(TRUST_PROXY="1")
    headers = Headers([("x-site-uuid", SITE), ("User-Agent", FIREFOX), ("Content-Type", "application/json")])
    headers.extend([("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.5:80")])

    service.client.post(HIT, data=json.dumps(page_hit()), headers=headers)
    service.hit(headers={"X-Forwarded-For": "203.0.113.5"})

    assert len({event["session_id"] for event in service.events}) == 1


def test_a_visitor_has_another_session_id_on_every_site_and_day(service: Any) -> None:
    service.hit()
    service.hit()
    service.hit(headers={"x-site-uuid": UUID})
    service.now = NOW.replace(day=23)
    service.hit()

    names = [event["session_id"] for event in service.events]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_day_is_that_of_utc_when_the_hit_arrived(service: Any) -> None:
    service.now = NOW.replace(hour=23, minute=59, second=59, microsecond=999_999)
    service.hit()

    salt = service.salts.get_or_create(SITE, NOW.date())
    expected = hashlib.sha256(f"{salt}:{SITE}:127.0.0.1:{FIREFOX}".encode()).hexdigest()
    assert service.events[0]["session_id"] == expected
    assert service.events[0]["timestamp"] == "2026-11-22T23:59:59.999Z"
