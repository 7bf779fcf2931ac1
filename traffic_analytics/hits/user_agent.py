"""Parse the User-Agent header: operating system, browser, kind of device.

The parser is ua-parser; dashboards and Tinybird's tables use the names of ua-parser-js 1.x. Tables below translate the
names that differ. Names that ua-parser-js lacks (an app, a TV's maker) are ignored: then marks in the user agent
decide, in the order of ua-parser-js.
"""

from functools import cache
from typing import NamedTuple

from ua_parser import Domain, loaders
from ua_parser.regex import Resolver

from traffic_analytics.hits.bots import is_bot, to_ascii

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
        "opera tablet", "opera touch", "phoenix", "polaris", "puffin", "qupzilla", "rekonq", "rockmelt",
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


class UserAgent(NamedTuple):
    """Operating system, browser and kind of device; each may be `unknown`."""

    os: str
    browser: str
    device: str


BOT = UserAgent(UNKNOWN, UNKNOWN, "bot")
"""Result for every automated client: its hit is dropped, so its names are not looked for."""


def parse(user_agent: str, more_bots: tuple[str, ...] = ()) -> UserAgent:
    """Return operating system, browser and kind of device under ua-parser-js's names."""
    if is_bot(user_agent, more_bots):
        return BOT
    text = to_ascii(user_agent)[:MAX_LENGTH]
    parsed = _names()(text, Domain.OS | Domain.USER_AGENT)
    system = _os(text, parsed.os.family.lower() if parsed.os else "")
    browser = _browser(text, parsed.user_agent.family.lower() if parsed.user_agent else "")
    return UserAgent(system, browser, DEVICES.get(system, UNKNOWN))


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
