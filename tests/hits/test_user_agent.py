from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import example, given, settings
from hypothesis import strategies as st

from traffic_analytics.hits import bots, user_agent
from traffic_analytics.hits.bots import is_bot
from traffic_analytics.hits.user_agent import parse

GOLDEN = [
    json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "user_agents.jsonl").read_text().splitlines()
]
CRAWLERS = [instance for crawler in CRAWLER_USER_AGENTS_DATA for instance in crawler["instances"]]
NODE_BOTS = re.compile(
    r"wget|ahrefsbot|curl|bot|crawler|spider|urllib|bitdiscovery|\+https://|googlebot", re.IGNORECASE
)

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) {WEBKIT}"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT}"
IPAD = f"Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) {WEBKIT}"
WEBVIEW = (
    f"Mozilla/5.0 (Linux; Android 13; SM-A536B; wv) {BLINK} Version/4.0 Chrome/123.0.6312.118 Mobile Safari/537.36"
)
PHONE = f"Mozilla/5.0 (Linux; Android 10; K) {BLINK} Chrome/124.0.0.0 Mobile Safari/537.36"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/122.0.0.0 Safari/537.36"


def blink(system: str, browser: str = "Chrome/120.0.0.0") -> str:
    return f"Mozilla/5.0 ({system}) {BLINK} {browser} Safari/537.36"


def shares_of_matches(field: str) -> tuple[float, float]:
    """Return the share of recorded user agents with the recorded value, unweighted and weighted by traffic."""
    hits = [row for row in GOLDEN if getattr(parse(row["ua"]), field) == row[field]]
    return len(hits) / len(GOLDEN), sum(row["weight"] for row in hits) / sum(row["weight"] for row in GOLDEN)


def test_the_device_of_every_recorded_user_agent_is_right() -> None:
    assert [row["ua"] for row in GOLDEN if parse(row["ua"]).device != row["device"]] == []


@pytest.mark.parametrize("field", ["os", "browser"])
def test_nearly_all_recorded_user_agents_are_named_as_ua_parser_js_names_them(field: str) -> None:
    rows, weight = shares_of_matches(field)
    assert rows >= 0.99
    assert weight >= 0.999


@pytest.mark.parametrize(
    ("agent", "os", "device"),
    [
        (f"{IPAD} Version/17.4 Mobile/15E148 Safari/604.1", "ios", "mobile-ios"),
        (f"{MAC} Version/17.4 Safari/605.1.15", "macos", "desktop"),
        ("SomeReader/1.0 (Mac OS X 10.15.7)", "macos", "desktop"),
        (f"{MAC} CriOS/124 Version/11.1.1 Safari/605.1.15", "macos", "desktop"),
        (f"{MAC} GSA/300.0 Version/17.0 Mobile/15E148 Safari/604.1", "macos", "desktop"),
        ("Mozilla/5.0 (Macintosh; U; PPC; en-US; rv:1.0.2) Gecko/20030208 Netscape/7.02", "macos", "desktop"),
        (blink("Linux; Android 12; BRAVIA 4K VH2"), "android", "mobile-android"),
        (blink("Linux; Android") + " CrKey/1.54 DeviceType/AndroidTV", "android", "mobile-android"),
        (blink("Fuchsia") + " CrKey/1.56.500000", "chromecast", "unknown"),
        (blink("Linux; Android 9; AFTSS", "Silk/120.1.1 like Chrome/120"), "android", "mobile-android"),
        (blink("X11; Linux x86_64", "Silk/137.3.7 like Chrome/137"), "linux", "desktop"),
        (blink("X11; Linux x86_64; Quest 3", "OculusBrowser/32.0 Chrome/122 VR"), "linux", "desktop"),
        (blink("Linux; Android 12; HarmonyOS; ALN-AL00"), "harmonyos", "unknown"),
        (blink("Phone; OpenHarmony 5.0") + " ArkWeb/4.1.6.1 Mobile", "openharmony", "unknown"),
        ("Mozilla/5.0 (Mobile; Nokia_8110_4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5", "kaios", "unknown"),
        (blink("Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950") + " Edge/15", "windows phone", "unknown"),
        (blink("Windows NT 10.0; Win64; x64; Xbox; Xbox One") + " Edge/44", "xbox", "unknown"),
        ("Mozilla/4.0 (compatible; MSIE 6.0; Windows 98; PCQuest)", "windows", "desktop"),
        (f"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) {WEBKIT} Version/13.0", "playstation", "unknown"),
        (f"Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) {WEBKIT} NF/6.0.2.21.3", "nintendo", "unknown"),
        (blink("SMART-TV; Linux; Tizen 6.0", "76.0.3809.146/6.0 TV"), "tizen", "unknown"),
        (blink("Web0S; Linux/SmartTV") + " WebAppManager", "webos", "unknown"),
        (blink("X11; CrOS x86_64 14541.0.0"), "chromium os", "desktop"),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "ubuntu", "desktop"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "linux", "desktop"),
        ("Mozilla/5.0 (X11; Fedora; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "fedora", "unknown"),
        ("Mozilla/5.0 (X11; FreeBSD amd64; rv:128.0) Gecko/20100101 Firefox/128.0", "freebsd", "unknown"),
        ("Opera/9.80 (Linux armv7l; HbbTV/1.1.1 (; Sony; KDL32W650A;); ) Presto/2.12", "linux", "desktop"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "unknown", "bot"),
        ("x", "unknown", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_the_system_decides_the_device(agent: str, os: str, device: str) -> None:
    assert (parse(agent).os, parse(agent).device) == (os, device)


@pytest.mark.parametrize(
    ("agent", "browser"),
    [
        (PHONE, "chrome"),
        (f"{PHONE} OPR/82.0.0.0", "opera"),
        (f"{PHONE} EdgA/124.0.0.0", "edge"),
        (f"{PHONE} Ddg/124.0.0.0", "duckduckgo"),
        (f"{PHONE} (Ecosia android@124.0.0.0)", "chrome"),
        (WEBVIEW, "chrome webview"),
        (f"{WEBVIEW} GSA/15.14.38.28.arm64", "chrome webview"),
        (f"{WEBVIEW} [Pinterest/Android]", "chrome webview"),
        (f"{WEBVIEW} [LinkedInApp]", "linkedin"),
        (f"{WEBVIEW} [FB_IAB/FB4A;FBAV/460.0.0.48.109;]", "facebook"),
        (f"{WEBVIEW} Instagram 326.0.0.34.90 Android (34/14; 480dpi)", "instagram"),
        (f"{WEBVIEW} MicroMessenger/8.0.30 WeChat/arm64", "wechat"),
        (f"{WEBVIEW};KAKAOTALK 2410550", "kakaotalk"),
        (f"Mozilla/5.0 (Linux; U; Android 4.0.3; de-de; GT-I9100) {WEBKIT} Version/4.0 Safari/9", "android browser"),
        (blink("Linux; Android 4.4.4; SHV31", "Version/4.0 Chrome/33.0.0.0 Mobile"), "android browser"),
        (f"{IPHONE} Version/17.4 Mobile/15E148 Safari/604.1", "safari"),
        (f"{IPHONE} CriOS/124.0 Mobile/15E148 Safari/604.1", "chrome"),
        (f"{IPHONE} FxiOS/155 Mobile/15E148 Version/26.4", "firefox"),
        (f"{IPHONE} GSA/439.4 Mobile/15E148 Safari/604.1", "gsa"),
        (f"{IPHONE} Mobile/15E148", "webkit"),
        (f"{IPHONE} Mobile/15E148 [Pinterest/iOS]", "webkit"),
        (f"{MAC} GSA/300.0 Version/17.0 Mobile/15E148 Safari/604.1", "gsa"),
        (f"{WINDOWS} AVG/122.0", "avg secure browser"),
        (f"{WINDOWS} Whale/3.25", "whale"),
        (f"{WINDOWS} QtWebEngine/5.15", "chrome"),
        (f"Mozilla/5.0 (Windows NT 10.0) {BLINK} Teams/1.6 Chrome/108 Electron/22 Safari/537.36", "electron"),
        ("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "ie"),
        ("Mozilla/5.0 (X11; U; Linux i686; en-US; rv:1.7.3) Gecko/20040913", "mozilla"),
        ("Podbay/1.0 CFNetwork/1410.0.3 Darwin/22.6.0", "unknown"),
    ],
)
def test_a_browser_that_ua_parser_js_does_not_know_is_named_by_its_engine(agent: str, browser: str) -> None:
    assert parse(agent).browser == browser


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


@settings(deadline=None)  # the first call compiles the list
@given(st.text(st.characters()))
@example("\ud800")
@example("Android Version/1 " * 500)
@example("\U0001f600" * 8192)
@example("Mozilla/5.0 (" * 1600)
def test_any_text_can_be_parsed(agent: str) -> None:
    parsed = parse(agent)
    assert is_bot(agent) is (parsed.device == "bot")
    assert all(parsed)


WORST = (
    "éda-z app_version/Tablet browser Mobile;AppleWebKit/1.1",
    "éGSA/1553.0.2507.1532Version/Opera/Daumoa",
    "é;Windows Phone éNetNewsWire",
    "é125scrapeOnefootball/Androidcrawl141,2FBAV/for Flipboard",
    "é _5.5.0é _5.5.0é _44.0.http://riddler.io_5. Darwin/17.0.d5.0é rOPR/dcr40.0.3132.1297[FBWindowsFlipboardcr/",
    "InstagramrchiverTablet browser Opera/ Darwin/18.2.dMozillaOPR/; wv)Dolfiné;Ddg/51.0 Mac OS XGSA/KAKAOTALK/",
    "Edge for",
    "botOPR/crawlbot59.0.2285.1271Xerka ",
    "LinuxAndroidMacOutlook",
    "FlipboardercraperS60VersionPodCd",
    "scrapeAppleWebKit/1.1Mobile;Mobile Mobile archive. NXCreativeCloudPhantom/ios-43.0.3604.1491rchiver",
    "Mozilla/5.0 (",
    "bot AppleWebKit/ Android 1;",
)
"""Units of the most expensive user agents that `python -m tests.bench.user_agents` and attacks have found."""


def least_seconds(agent: str) -> float:
    def seconds() -> float:
        started = time.thread_time()
        parse(agent)
        return time.thread_time() - started

    return min(seconds() for _ in range(7))


@pytest.mark.parametrize("length", [512, 2048, 16_384])
@pytest.mark.parametrize("unit", WORST)
def test_hostile_user_agents_cost_few_times_what_a_browser_costs(unit: str, length: int) -> None:
    worst = (unit * length)[:length]

    # A browser costs 16 to 30 microseconds. Characters beyond ASCII made some of these cost 3 to 11 milliseconds.
    assert least_seconds(worst) < 60 * max(least_seconds(row["ua"]) for row in GOLDEN[:20])


def test_characters_beyond_ascii_change_no_name() -> None:
    assert parse(f"{WINDOWS} é\U0001f600\ud800") == parse(WINDOWS)
    assert is_bot("é\U0001f600Googlebot")


def test_text_beyond_the_maximum_length_only_serves_to_detect_bots() -> None:
    padding = "x" * user_agent.MAX_LENGTH
    assert parse(padding + PHONE) == ("unknown", "unknown", "unknown")
    assert parse(f"{padding}{PHONE} Googlebot").device == "bot"
