"""Bots are recognised, and the browsers of humans are not taken for bots."""

from __future__ import annotations

import re

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.app import golden
from tests.support.user_agents import BLINK, IPHONE, PHONE, WEBVIEW, WINDOWS, blink
from traffic_analytics.hits import bots
from traffic_analytics.hits.bots import is_bot
from traffic_analytics.hits.user_agent import parse

GOLDEN = golden("user_agents.jsonl")
CRAWLERS = [instance for crawler in CRAWLER_USER_AGENTS_DATA for instance in crawler["instances"]]
NODE_BOTS = re.compile(
    r"wget|ahrefsbot|curl|bot|crawler|spider|urllib|bitdiscovery|\+https://|googlebot", re.IGNORECASE
)


def test_no_recorded_user_agent_of_a_human_is_a_bot() -> None:
    assert [row["ua"] for row in GOLDEN if is_bot(row["ua"])] == []


def test_at_least_99_percent_of_the_known_crawlers_are_bots() -> None:
    caught = sum(map(is_bot, CRAWLERS)) / len(CRAWLERS)
    assert caught >= 0.99


def test_every_crawler_that_the_node_service_caught_is_a_bot() -> None:
    assert [agent for agent in CRAWLERS if NODE_BOTS.search(agent) and not is_bot(agent)] == []


def test_the_listed_apps_that_visitors_browse_with_are_still_on_the_list() -> None:
    patterns = {crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA}
    assert patterns >= bots.APPS | bots.NOT_BOTS


@settings(deadline=None)
@given(
    st.text(),
    st.sampled_from(["wget", "AhrefsBot", "cURL", "bot", "CRAWLER", "Spider", "urllib", "BitDiscovery", "+https://"]),
    st.text(),
)
@example(PHONE * 100, "bot", "")
def test_a_word_that_bots_use_identifies_a_bot_at_any_position(before: str, word: str, after: str) -> None:
    agent = before + word + after
    assert is_bot(agent) or "cubot" in agent.lower()


@pytest.mark.parametrize(
    "agent",
    [
        "python-requests/2.31.0",
        "Go-http-client/2.0",
        "okhttp/4.9.3",
        "Java/17.0.2",
        "axios/1.6.0",
        "Apache-HttpClient/4.5 (Java/11)",
        "libwww-perl/6.67",
        "WhatsApp/2.23.20.0 A",
        "Cubot/1.0",
        "Cubot (http://cubot.example/)",
        WINDOWS.replace("Chrome/", "HeadlessEdg/"),
        WINDOWS.replace("Chrome/", "HeadlessChrome/"),
        blink("Linux; Android 12; CUBOT X30") + " (compatible; Googlebot/2.1)",
        blink("Linux; Android 12; CUBOT X30") + " Focubot",
        blink("Linux; Android 12; IDbot553") + " Focubot",
        blink("Linux; Android 12; M bot 60; compatible; examplebot"),
        blink("Linux; Android 12; examplebot/1.0"),
        blink("Linux; Android 12; AhrefsBot"),
        "IDbot553",
        f"{PHONE} (compatible; Cubot/1.0)",
    ],
)
def test_an_automated_client_is_a_bot(agent: str) -> None:
    assert is_bot(agent)
    assert parse(agent).device == "bot"


@pytest.mark.parametrize(
    "agent",
    [
        # Pages without a browser.
        f"Mozilla/5.0 (linux) {BLINK} jsdom/20.0.3",
        f"Mozilla/5.0 (win32) {BLINK} jsdom/22.1.0",
        f"Mozilla/5.0 (darwin) {BLINK} ExampleDOM/1.0",
        f"Mozilla/5.0 (X11; Linux x64) {BLINK} HappyDOM/13.0.0",
        "Mozilla/5.0 Chrome/10.0.613.0 Safari/534.15 Zombie.js/6.1.4",
        f"Mozilla/5.0 (Unknown; Linux x86_64) {BLINK} Qt/4.8.1 Safari/534.34",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.21 (KHTML, like Gecko) wpif Safari/537.21",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) splash Version/10.0 Safari/538.1",
        # Script runtimes.
        "Deno/1.40.0",
        "Bun/1.1.0",
        "Node.js/20",
        "QuickJS/2024-01-13",
        "Cloudflare-Workers",
        "Lua/5.4",
        "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041",
        # HTTP clients, load generators and monitors.
        "HTTPClient/1.0 (2.4.0, ruby 1.9.3 (2013-06-27))",
        "k6/0.49.0 (https://k6.io/)",
        "Grafana k6/0.50.0",
        "HTTPie/3.2.2",
        "ReactorNetty/1.1.15",
        "rest-client/2.1.0 (linux x86_64) ruby/3.1",
        "hackney/1.18.1",
        "libcurl/7.68.0 r-curl/4.3 httr/1.4.2",
        "ExampleReader/1 (com.example.reader; build:4; iOS 17.4.0) Alamofire/5.4.3",
        "Podbay/1.0 CFNetwork/1410.0.3 Darwin/22.6.0",
        "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UD1A.230803.041)",
        "vegeta",
        "Hexometer",
        # Names that are compatible with a browser, but name no engine.
        "Mozilla/5.0 (compatible; worldwebheritage.org/1.0; +crawl@example.org)",
        "Mozilla/5.0 (compatible; Example/1.0)",
        "Mozilla/4.0 (compatible; Example; Windows NT 10.0)",
        "Mozilla/5.0 (compatible)",
        f"Mozilla/5.0 {BLINK[:-1]}; compatible; Example/1.0) Chrome/120.0 Safari/537.36",
        f"{WINDOWS} (+http://example.org/why)",
        f"{WINDOWS} (crawl@example.org)",
    ],
)
def test_a_client_that_is_no_browser_is_a_bot_without_being_listed(agent: str) -> None:
    assert is_bot(agent)
    assert parse(agent).device == "bot"


def test_a_part_of_ones_own_list_identifies_a_bot() -> None:
    agent = f"{WINDOWS} Intranet-Check/2"
    assert not is_bot(agent)
    assert is_bot(agent, ("unused", "intranet-check"))
    assert parse(agent, ("intranet-check",)).device == "bot"
    assert not is_bot(WINDOWS, ("intranet-check",))


@pytest.mark.parametrize(
    "agent",
    [
        "x",
        "",
        "-",
        "\u00e9",
        "Mozilla/5.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        "Mozilla/4.08 [en] (WinNT; U ;Nav)",
        "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)",
        "Mozilla/5.0 (compatible; Konqueror/4.5; FreeBSD) KHTML/4.5.4 (like Gecko)",
        "Mozilla/4.0 (compatible; Linux 2.6.22) NetFront/3.4 Kindle/2.0 (screen 600x800)",
        "ExampleReader/1.0 (iPhone; iOS 17.4; Scale/3.00)",
        "Nokia6230/2.0 (04.44) Profile/MIDP-2.0 Configuration/CLDC-1.1",
        "w3m/0.5.3",
        "Lynx/2.8.9rel.1 libwww-FM/2.14",
    ],
)
def test_a_user_agent_that_hides_or_shortens_its_name_is_no_bot(agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize(
    "agent",
    [
        blink("Linux; Android 6.0; M bot 51 Build/MRA58K", "Chrome/106.0.0.0 Mobile"),
        blink("Linux; Android 7.0; M BOT 60", "Chrome/106.0.0.0 Mobile"),
        blink("Linux; Android 9; MBOT tab 103 Build/PPR1; wv", "Version/4.0 Chrome/106.0.0.0"),
        blink("Linux; Android 8.1.0; IDbot553 Build/O11019; wv", "Version/4.0 Chrome/106.0.0.0 Mobile"),
        blink("Linux; arm_64; Android 9; IDbot53", "Chrome/106.0.0.0 YaBrowser/22.11 Mobile"),
        blink("Linux; U; Android 4.4.2; en-us; M BOT 551 Build/KOT49H", "Version/4.0 Mobile"),
        blink("Linux; Android 11; RoBot 5 Pro", "Chrome/106.0.0.0 Mobile"),
        f"{WEBVIEW} [FB_IAB/FB4A;FBAV/460.0;FBDV/M bot 60;FBMF/MBOT;FBBD/MBOT;]",
        blink("Linux; Android 12; CUBOT X30"),
        blink("Linux; Android 7.0; CUBOT_NOTE_S Build/NRD90M; wv", "Version/4.0 Chrome/64 Mobile"),
        f"{WEBVIEW} [FB_IAB/FB4A;FBDV/Cubot P40;FBMF/CUBOT;FBBD/CUBOT;]",
        f"{WEBVIEW} Viber/13",
        f"{IPHONE} Mobile/15E148 WhatsApp/2.24",
        f"{IPHONE} Mobile/15E148 Bluesky/1.80",
        f"{IPHONE} Mobile/15E148 PayPal/8.1",
        f"{IPHONE} Mobile/15E148 Snapchat/12.82.0.41 (like Safari/8617.2.4.10.8, panda)",
        f"{IPHONE} Mobile/15E148 [LinkedInApp]/9.29.4541",
        f"{IPHONE} Mobile/15E148 WIRED/3.2.3.11.87970",
        f"{WEBVIEW} [Pinterest/Android]",
        f"{WEBVIEW} MetaIAB Facebook",
        blink("Linux; Android 15; CPH2557 Build/AP3A.240617.008; wv", "Version/4.0 Chrome/142 Mobile"),
        "Opera/9.80 (MAUI Runtime; Opera Mini/4.4.39008/37.9178; U; en) Presto/2.12.423 Version/12.16",
        f"{WINDOWS} Edg/122.0.0.0",
    ],
)
def test_a_browser_that_humans_use_is_no_bot(agent: str) -> None:
    assert not is_bot(agent)
