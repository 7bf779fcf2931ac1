from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.app import golden
from tests.support.user_agents import BLINK, IPAD, IPHONE, MAC, PHONE, WEBKIT, WEBVIEW, WINDOWS, blink
from traffic_analytics.hits import user_agent
from traffic_analytics.hits.bots import is_bot
from traffic_analytics.hits.user_agent import parse

GOLDEN = golden("user_agents.jsonl")


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
