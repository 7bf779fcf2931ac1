"""Name the source of a referrer: one name for all names and hosts of the source."""

import re
from urllib.parse import urlsplit

NAMES: dict[str, tuple[str, ...]] = {
    "AOL Mail": ("mail.aol.com",),
    "AppNexus": (),
    "Apple News": ("apple.news",),
    "Bluesky": ("bsky", "bsky.app", "bsky.social"),
    "Brave Search": ("search.brave.com",),
    "Buffer": ("buffer.com",),
    "Ecosia": ("ecosia.org",),
    "Facebook": ("facebook.com", "com.facebook.katana"),
    "Flipboard": ("flipboard.com", "flipboard.app", "flipboard.cn"),
    "Ghost": ("ghost.org",),
    "Gmail": ("gmail.com", "mail.google.com", "com.google.android.gm"),
    "Ground News": ("ground.news",),
    "Instagram": ("instagram.com", "com.instagram.android"),
    "LinkedIn": ("linkedin_company", "linkedin.com", "com.linkedin.android", "lnkd.in"),
    "Mastodon": ("mastodon.social", "mastodon.online", "org.joinmastodon.android", "phanpy.social"),
    "Memeorandum": ("memeorandum.com",),
    "Outlook": ("outlook.com", "outlook.live.com", "outlook.office.com", "outlook.office365.com"),
    "Reddit": ("reddit.com", "com.reddit.frontpage"),
    "SmartNews": ("smartnews.com",),
    "Substack": ("substack.com",),
    "Taboola": (),
    "Threads": ("threads.com", "threads.net"),
    "Twitter": ("x.com", "twitter.com", "t.co", "com.twitter.android"),
    "Wikipedia": ("wikipedia.org",),
    "Yahoo!": ("yahoo", "yahoo.com", "m.yahoo.com", "r.search.yahoo.com", "mail.yahoo.com", "yahoo! mail"),
}
"""Hosts without `www.`, names of apps and other names of each source, in lower case. The name itself is one of them."""

LIKE_HOSTS = (
    "1.cz", "360.cn", "E1.ru", "Goyellow.de", "Hocam.com", "Hooseek.com", "I.ua", "Identi.ca", "Inbox.com", "Last.fm",
    "Lo.st", "Mail.ru", "MetaCrawler.de", "MoiKrug.ru", "Nasza-klasa.pl", "Online.no", "Paper.li", "Poisk.ru",
    "Price.ru", "Search.ch", "Search.com", "Sonico.com", "StickyADS.tv", "Suchmaschine.com", "Torg.Mail.ru",
    "Trouvez.com", "Tut.by", "Ukr.net", "URL.ORGanizier", "vKruguDruzei.ru", "Web.de", "Web.nl", "Yandex.Direct",
    "Yandex.Market",
)  # fmt: skip
"""Names of known referrers that look like hosts; they keep their capitals."""

KNOWN = {name.lower(): name for name in LIKE_HOSTS} | {
    variant: name for name, variants in NAMES.items() for variant in (name.lower(), *variants)
}

# Not all of Yahoo: Ghost's own cases name search.yahoo.com by its host.
_WITH_SUBDOMAINS = (
    "bsky.app",
    "bsky.social",
    "facebook.com",
    "flipboard.com",
    "instagram.com",
    "linkedin.com",
    "mail.yahoo.com",
    "phanpy.social",
    "reddit.com",
    "substack.com",
    "threads.com",
    "threads.net",
    "twitter.com",
    "wikipedia.org",
    "x.com",
)
SUFFIXES = {f".{host}": KNOWN[host] for host in _WITH_SUBDOMAINS}
"""Ends of hosts whose subdomains are all the same source."""

# A host as it is sent without a scheme: labels and dots, or an IPv6 address; a port, path or query may follow.
BARE_HOST = re.compile(r"(?:[\w-]+(?:\.[\w-]+)+\.?|\[[0-9a-f:.]+\])(?::\d*)?(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)


def name_source(referrer: str) -> str:
    """Return the source of a referrer, which may be a name, a host or a URL; '' is direct traffic."""
    host = _host(referrer).removesuffix(".").removeprefix("www.")
    candidate = host or referrer.lower()
    if name := KNOWN.get(candidate):
        return name
    for suffix, name in SUFFIXES.items():
        if candidate.endswith(suffix):
            return name
    return host or referrer


def _host(referrer: str) -> str:
    try:
        if "://" in referrer or referrer.startswith("//"):
            return urlsplit(referrer).hostname or ""
        return urlsplit(f"//{referrer}").hostname or "" if BARE_HOST.fullmatch(referrer) else ""
    except ValueError:
        return ""
