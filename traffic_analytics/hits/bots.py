"""Recognize bots by the User-Agent header: listed crawlers, words that automated clients use, and no browser at all."""

import re
from functools import cache
from importlib import import_module

from ua_parser_rs import UserAgentExtractor

# Names that automated clients use; the list of crawler-user-agents has rarer ones.
BOT_WORDS = (
    r"(?i)bot|wget|curl|crawler|spider|urllib|bitdiscovery|\+https://",
    r"(?i)headless|phantomjs|slimerjs|scrapy|aiohttp|python-requests|httpunit|postmanruntime",
    # Pages without a browser, and browsers without a person.
    r"(?i)jsdom|happy-?dom|linkedom|zombie\.js|htmlunit|casperjs|lightpanda|wkhtmlto",
    r"(?i)puppeteer|playwright|selenium|webdriver|cypress/|nightmarejs",
    # Libraries that make requests. Those that name no system are recognized without their names.
    r"(?i)http[ _-]?client|okhttp|powershell|winhttp|alamofire|afnetworking|ktor|guzzle|httpx|restsharp|unirest",
    r"(?i)reqwest|typhoeus|mechanize|aws-sdk|node-fetch|cloudflare-workers|\b(?:volley|jersey|libcurl|workerd|dalvik)/",
    r"(?i)^(?:python|java|ruby|perl|php|go-http-client|apache-http|libwww|axios|node|undici|got|dart|deno|bun|k6)\b",
    # The address of a site or of an operator.
    r"(?i)\+http|[\w.+-]@[a-z][\w-]*\.[a-z]",
    r"Gecko; compatible|\(Unknown; ",
    # A system as script runtimes name it.
    r"^Mozilla/5\.0 \((?:linux|darwin|win32|freebsd|[Nn]ode|[Dd]eno|[Bb]un)\b",
    # A word without a version in place of a browser's name, as in `(KHTML, like Gecko) wpif Safari/537.21`.
    r"\(KHTML, like Gecko\) [a-z]+ (?:Version|Safari)/",
    # An app's requests of its own; the pages that it shows are requested by a browser's engine.
    r"\bCFNetwork/",
)
# Listed, but no bots: a build of Android on many phones, and the browser of Facebook's app.
NOT_BOTS = frozenset({r"AP3A\.240617\.008", r"MetaIAB Facebook"})
# Apps, listed for their link previews. Visitors browse in them too: then the user agent names a browser's engine.
APPS = frozenset({
    r"Blackboard", r"Bluesky\/", r"Digg Deeper", r"Feedly", r"Fluid", r"Goodreads", r"Grammarly\/", r"Hatena",
    r"Instapaper\/", r"Notion\/", r"Overcast\/", r"PayPal\/", r"PocketCasts\/", r"Podimo", r"Sogou",
    r"Tumblr\/", r"Viber", r"WhatsApp", r"inoreader",
})  # fmt: skip
# Parts of every browser's user agent: its engine, or its own name before there were engines.
BROWSER_ENGINES = (
    "AppleWebKit", "Gecko", "Trident/", "MSIE ", "Presto/", "Opera", "KHTML", "Goanna/", "Servo/", "NetFront", "UCWEB",
    "UCBrowser", "Obigo", "Lynx/", "Links ", "w3m/", "Dillo/", "Netscape", "NetSurf/", "Polaris", "iCab", "UP.Browser",
)  # fmt: skip
# Systems and phones. An app may name itself and its system alone; a visitor can read pages in it.
SYSTEMS = (
    "Windows", "Macintosh", "Mac OS", "Mac_PowerPC", "Darwin/", "iPhone", "iPad", "iPod", "iOS", "Android", "Linux",
    "X11", "CrOS", "BSD", "SunOS", "MIDP", "BlackBerry", "Nokia", "Symbian", "SymbOS", "SonyEricsson", "SAMSUNG",
    "Nintendo", "PlayStation", "PLAYSTATION", "Tizen", "Web0S", "webOS", "KAIOS", "HarmonyOS", "Amiga", "DoCoMo",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z]{2}")
"""Part of any name; a user agent without it hides its program, and visitors do so too."""
COMPATIBLE = re.compile(r"Mozilla/[0-9.]+ ?\(compatible\b")
"""Begin of a name that claims to be compatible with a browser."""
# Names of phones: the model after the version of Android, and maker and model as Facebook's app lists them.
MODEL = re.compile(
    r"(?<=Android )[0-9.]+;[^()]{0,80}?(?=\)| Build/|; wv)|(?<=FBDV/)[^;\]]*|(?<=FBMF/)[^;\]]*|(?<=FBBD/)[^;\]]*"
)
PHONES = 512
"""Begin of a user agent in which a phone is looked for, in characters; browsers send less."""
BOT_IN_MODEL = re.compile(r"bot(?![/a-z])", re.IGNORECASE)


def is_bot(user_agent: str, more: tuple[str, ...] = ()) -> bool:
    """Return whether any part of the user agent identifies an automated client.

    `more` are parts of further bots' user agents, in lower case.
    """
    text = to_ascii(user_agent)
    match = _bots().extract(text)
    if match and match.family == "word" and "Android" in text and "AppleWebKit/" in text:
        match = _bots().extract(MODEL.sub(_without_bot, text[:PHONES]) + text[PHONES:])
    if match:
        return not (match.family == "app" and "AppleWebKit/" in text)
    return _is_no_browser(text) or (bool(more) and any(part in text.lower() for part in more))


def _without_bot(model: re.Match[str]) -> str:
    """Return the model of a phone without the word `bot`, unless a crawler is named there."""
    return model[0] if "compatible" in model[0] else BOT_IN_MODEL.sub("phone", model[0])


def _is_no_browser(text: str) -> bool:
    """Return whether the user agent names a program, but neither an engine nor, if it is no imitation, a system."""
    if any(mark in text for mark in BROWSER_ENGINES):
        return False
    if text.startswith("Mozilla/"):
        return COMPATIBLE.match(text) is not None
    return NAME.search(text) is not None and not any(mark in text for mark in SYSTEMS)


def to_ascii(user_agent: str) -> str:
    """Replace all other characters, which no pattern names: with one of them the engine is a hundred times slower."""
    return user_agent.encode("ascii", "replace").decode("ascii")


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
    # The first pattern that matches counts: a listed crawler is one in place of a phone's name, too.
    families = {rf"\b(?:{crawlers})": "listed", **dict.fromkeys(BOT_WORDS, "word"), **dict.fromkeys(APPS, "app")}
    return UserAgentExtractor((pattern, family, None, None, None, None) for pattern, family in families.items())
