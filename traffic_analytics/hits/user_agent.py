"""Parse the User-Agent header: operating system, browser, kind of device, bot or not.

The parser is ua-parser; dashboards and Tinybird's tables use the names of ua-parser-js 1.x. Tables below translate the
names that differ. Names that ua-parser-js lacks (an app, a TV's maker) are ignored: then marks in the user agent
decide, in the order of ua-parser-js.
"""

import re
from functools import cache
from importlib import import_module
from typing import NamedTuple

from ua_parser import Domain, loaders
from ua_parser.regex import Resolver
from ua_parser_rs import UserAgentExtractor

UNKNOWN = "unknown"

MAX_LENGTH = 512
"""Length of a user agent that is parsed, in characters; browsers send less, and matching costs time for each."""

DEVICES = {
    "ios": "mobile-ios",
    "android": "mobile-android",
    "macos": "desktop",
    "windows": "desktop",
    "linux": "desktop",
    "chrome os": "desktop",
    "chromium os": "desktop",
    "ubuntu": "desktop",
}

OS_NAMES = {
    "blackberry os": "blackberry",
    "blackberry tablet os": "rim tablet os",
    "chrome os": "chromium os",
    "chromecast android": "android",
    "chromecast fuchsia": "chromecast",
    "chromecast linux": "chromecast",
    "chromecast smartspeaker": "chromecast",
    "arch linux": "arch",
    "harmonyos": "openharmony",
    "linux mint": "mint",
    "mac os": "macos",
    "mac os x": "macos",
    "nokia series 40": "series40",
    "panasonic": "viera",
    "philips": "nettv",
    "symbian os": "symbian",
    "symbian^3": "symbian",
    "symbian^3 anna": "symbian",
    "symbian^3 belle": "symbian",
    "web0s": "webos",
} | {
    name: name
    for name in (
        "android", "bada", "bsd", "centos", "debian", "fedora", "firefox os", "freebsd", "gentoo", "ios", "kaios",
        "kubuntu", "linux", "maemo", "mandriva", "meego", "netbsd", "openbsd", "pclinuxos", "red hat", "sailfish",
        "slackware", "solaris", "suse", "tizen", "ubuntu", "webos", "windows", "windows mobile", "windows phone",
    )
}  # fmt: skip

# Systems that run Android programs and claim to be Android.
ANDROID_MARKS = {"HarmonyOS": "harmonyos", "Android-x86": "android-x86", "Ubuntu": "ubuntu touch"}

# Systems that ua-parser does not recognize, or reports as the brand of the device; the first mark decides.
OS_MARKS = {
    "OpenHarmony": "openharmony",
    "Macintosh": "macos",
    "Mac_PowerPC": "macos",
    "PlayStation": "playstation",
    "PLAYSTATION": "playstation",
    "Nintendo": "nintendo",
    "Series60": "symbian",
    "Symbian": "symbian",
    "Amiga": "amigaos",
    "OS/2": "os/2",
    "BeOS": "beos",
    "Haiku": "haiku",
    "HP-UX": "hp-ux",
    "AIX": "aix",
    "RISC OS": "risc os",
    "OpenVMS": "openvms",
    "DragonFly": "dragonfly",
    "MorphOS": "morphos",
    "Solaris": "solaris",
    "UNIX": "unix",
    "Unix": "unix",
    "Windows": "windows",
    "Linux": "linux",
}

BROWSER_NAMES = {
    "amazon silk": "silk",
    "avg": "avg secure browser",
    "baidu browser": "baidu",
    "baidu explorer": "baidu",
    "chrome mobile": "chrome",
    "chrome mobile ios": "chrome",
    "comodo dragon": "dragon",
    "dolfin": "dolphin",
    "duckduckgo mobile": "duckduckgo",
    "edge mobile": "edge",
    "facebook messenger": "facebook",
    "firefox alpha": "firefox",
    "firefox beta": "firefox",
    "firefox ios": "firefox",
    "firefox mobile": "firefox",
    "headlesschrome": "chrome headless",
    "heytap browser": "heytap",
    "ie mobile": "iemobile",
    "miuibrowser": "miui browser",
    "mobileiron": "iron",
    "myie2": "maxthon",
    "ncsa mosaic": "mosaic",
    "nokia browser": "nokiabrowser",
    "openwave": "up.browser",
    "opera mobile": "opera",
    "ovi browser": "ovibrowser",
    "pale moon": "palemoon",
    "palm blazer": "blazer",
    "qq browser": "qqbrowser",
    "qq browser mini": "qqbrowser",
    "qq browser mobile": "qqbrowser",
    "uc browser": "ucbrowser",
    "vivobrowser": "vivo browser",
    "wechat browser": "wechat",
    "yandex browser": "yandex",
    "yandexmodule2": "yandex",
} | {
    name: name
    for name in (
        "arora", "avant", "avast secure browser", "bolt", "camino", "chimera", "chromium", "coc coc",
        "conkeror", "dillo", "duckduckgo", "edge", "electron", "epiphany", "facebook", "firefox", "flock",
        "huawei browser", "ice browser", "iceape", "iceweasel", "icab", "ie", "instagram", "iron", "jasmine",
        "k-meleon", "kindle", "konqueror", "line", "links", "lunascape", "lynx", "maxthon", "midori", "minimo",
        "netfront", "netscape", "obigo", "oculus browser", "omniweb", "opera", "opera coast", "opera gx", "opera mini",
        "opera tablet", "opera touch", "phantomjs", "phoenix", "polaris", "puffin", "qupzilla", "rekonq", "rockmelt",
        "sailfish browser", "samsung internet", "seamonkey", "skyfire", "sleipnir", "snapchat",
        "sogou explorer", "swiftfox", "tiktok", "twitter", "up.browser", "vivaldi", "waterfox", "whale",
    )
}  # fmt: skip

# Browsers and in-app browsers that ua-parser reports as their engine.
BROWSER_MARKS = {
    "[LinkedInApp]": "linkedin",
    "MicroMessenger/": "wechat",
    "KAKAOTALK": "kakaotalk",
    "NAVER(inapp": "naver",
    "HuaweiBrowser/": "huawei browser",
    "Brave/": "brave",
    "Electron/": "electron",
    "Avast/": "avast secure browser",
    "AVG/": "avg secure browser",
    "Whale/": "whale",
    "Falkon/": "falkon",
    "Klar/": "klar",
    "LBBROWSER": "lbbrowser",
}
ENGINES = frozenset(
    {"android", "chrome", "chrome mobile webview", "mobile safari", "mobile safari ui/wkwebview", "safari"}
)

# Names for all other user agents, by marks that follow one another. The order is that of ua-parser-js: each engine also
# claims to be those below it.
ENGINE_MARKS = (
    (("; wv)", "Chrome/"), "chrome webview"),
    (("Android", " Version/", "Safari"), "android browser"),
    (("GSA/",), "gsa"),
    (("FxiOS/",), "firefox"),
    (("Chrome/",), "chrome"),
    (("CriOS/",), "chrome"),
    (("WebKit/", " Safari/"), "safari"),
    (("WebKit/",), "webkit"),
    (("MSIE ",), "ie"),
    (("Trident/",), "ie"),
    (("Opera",), "opera"),
    (("Firefox/",), "firefox"),
    (("FireFox/",), "firefox"),
    (("Mozilla/", "Firebird"), "firebird"),
    (("Mozilla/", "rv:", "Gecko/"), "mozilla"),
)

# Names that automated clients use; the list of crawler-user-agents has rarer ones.
BOT_WORDS = (
    r"(?i)bot|wget|curl|crawler|spider|urllib|bitdiscovery|\+https://",
    r"(?i)headless|phantomjs|slimerjs|scrapy|aiohttp|python-requests|httpunit|postmanruntime",
    r"(?i)^(?:python|java|ruby|perl|php|go-http-client|okhttp|apache-httpclient|libwww|axios|node|undici|got|dart)\b",
)
# Listed, but no bots: a build of Android on many phones, and the browser of Facebook's app.
NOT_BOTS = frozenset({r"AP3A\.240617\.008", r"MetaIAB Facebook"})
# Apps, listed for their link previews. Visitors browse in them too: then the user agent names a browser's engine.
APPS = frozenset({
    r"Blackboard", r"Bluesky\/", r"Digg Deeper", r"Feedly", r"Fluid", r"Goodreads", r"Grammarly\/", r"Hatena",
    r"Instapaper\/", r"Notion\/", r"Overcast\/", r"PayPal\/", r"PocketCasts\/", r"Podimo", r"Sogou",
    r"Tumblr\/", r"Viber", r"WhatsApp", r"inoreader",
})  # fmt: skip
PHONE_CALLED_BOT = re.compile(r"(?<![a-z])cubot(?!/\d)", re.IGNORECASE)


class UserAgent(NamedTuple):
    """Operating system, browser and kind of device; each may be `unknown`."""

    os: str
    browser: str
    device: str


BOT = UserAgent(UNKNOWN, UNKNOWN, "bot")
"""Result for every automated client: its hit is dropped, so its names are not looked for."""


def parse(user_agent: str) -> UserAgent:
    """Return operating system, browser and kind of device under ua-parser-js's names."""
    if is_bot(user_agent):
        return BOT
    text = _ascii(user_agent)[:MAX_LENGTH]
    parsed = _names()(text, Domain.OS | Domain.USER_AGENT)
    system = _os(text, parsed.os.family.lower() if parsed.os else "")
    browser = _browser(text, parsed.user_agent.family.lower() if parsed.user_agent else "")
    return UserAgent(system, browser, DEVICES.get(system, UNKNOWN))


def is_bot(user_agent: str) -> bool:
    """Return whether any part of the user agent identifies an automated client."""
    text = _ascii(user_agent)
    match = _bots().extract(text)
    if match and "Android" in text and PHONE_CALLED_BOT.search(text):
        match = _bots().extract(PHONE_CALLED_BOT.sub("phone", text))
    return match is not None and not (match.family == "app" and "AppleWebKit/" in text)


def _ascii(user_agent: str) -> str:
    """Replace all other characters, which no pattern names: with one of them the engine is a hundred times slower."""
    return user_agent.encode("ascii", "replace").decode("ascii")


def _os(text: str, family: str) -> str:
    if family == "windows" and "Xbox" in text:
        return "xbox"
    if "Android" in text and family in {"android", "chromecast linux"}:
        return next((name for mark, name in ANDROID_MARKS.items() if mark in text), "android")
    # A tablet or headset that requests the desktop page claims to be a desktop, and counts as one.
    disguised = family == "android" or (family == "ios" and "Macintosh" in text)
    if family in OS_NAMES and not disguised:
        return OS_NAMES[family]
    return next((name for mark, name in OS_MARKS.items() if mark in text), OS_NAMES.get(family, UNKNOWN))


def _browser(text: str, family: str) -> str:
    if family in ENGINES:
        for mark, name in BROWSER_MARKS.items():
            if mark in text:
                return name
    elif family in BROWSER_NAMES:
        return BROWSER_NAMES[family]
    return next((name for marks, name in ENGINE_MARKS if _in_order(text, marks)), UNKNOWN)


def _in_order(text: str, marks: tuple[str, ...]) -> bool:
    """Return whether the marks follow one another, in linear time; a pattern with several `.*` is not linear."""
    at = 0
    for mark in marks:
        at = text.find(mark, at)
        if at < 0:
            return False
    return True


@cache
def _names() -> Resolver:
    user_agents, systems, _devices = loaders.load_lazy_builtins()
    return Resolver((user_agents, systems, []))


@cache
def _bots() -> UserAgentExtractor:
    """Compile the list of known crawlers for ua-parser's engine.

    The engine searches all literals in one pass, and runs only the patterns of those that occur, in linear time: 2
    microseconds for a browser, 20 for a bot. Python's re needs hundreds, and hostile input can make it backtrack.
    """
    known = [crawler["pattern"] for crawler in import_module("crawleruseragents").CRAWLER_USER_AGENTS_DATA]
    # Match at the start of a word only: `RED/` is listed, and WIRED/ is a magazine's app. One pattern for the list
    # takes 6 MB of memory instead of 20.
    crawlers = "|".join(f"(?:{pattern})" for pattern in known if pattern not in APPS | NOT_BOTS)
    families = {**dict.fromkeys((*BOT_WORDS, rf"\b(?:{crawlers})"), "bot"), **dict.fromkeys(APPS, "app")}
    return UserAgentExtractor((pattern, family, None, None, None, None) for pattern, family in families.items())
