"""Name the source of a referrer: one name for all names and hosts of the source."""

from urllib.parse import urlsplit

NAMES: dict[str, tuple[str, ...]] = {
    "Apple News": ("apple.news",),
    "Bluesky": ("bsky", "bsky.app", "go.bsky.app", "bsky.social", "staging.bsky.app"),
    "Brave Search": ("search.brave.com",),
    "Ecosia": ("www.ecosia.org", "ecosia.org"),
    "Facebook": (
        "facebook",
        "facebook.com",
        "www.facebook.com",
        "m.facebook.com",
        "l.facebook.com",
        "lm.facebook.com",
        "web.facebook.com",
        "touch.facebook.com",
        "com.facebook.katana",
    ),
    "Flipboard": ("flipboard", "flipboard.com", "www.flipboard.com", "flipboard.app", "flipboard.cn"),
    "Ghost": ("ghost.org", "www.ghost.org"),
    "Gmail": ("gmail", "gmail.com", "mail.google.com", "com.google.android.gm"),
    "Ground News": ("ground.news", "www.ground.news"),
    "Instagram": ("www.instagram.com", "instagram.com", "l.instagram.com", "com.instagram.android"),
    "LinkedIn": ("linkedin_company", "linkedin.com", "www.linkedin.com", "com.linkedin.android", "lnkd.in"),
    "Mastodon": ("mastodon.social", "mastodon.online", "org.joinmastodon.android", "phanpy.social"),
    "Memeorandum": ("memeorandum", "memeorandum.com", "www.memeorandum.com"),
    "Outlook": ("outlook.com", "outlook.live.com", "outlook.office.com", "outlook.office365.com"),
    "Reddit": (
        "reddit",
        "reddit.com",
        "www.reddit.com",
        "old.reddit.com",
        "new.reddit.com",
        "out.reddit.com",
        "amp.reddit.com",
        "com.reddit.frontpage",
    ),
    "SmartNews": ("www.smartnews.com", "smartnews.com"),
    "Substack": ("substack", "substack.com", "www.substack.com", "open.substack.com"),
    "Threads": ("l.threads.com", "threads.com", "www.threads.com", "threads.net", "www.threads.net", "l.threads.net"),
    "Twitter": (
        "x.com",
        "www.x.com",
        "twitter.com",
        "www.twitter.com",
        "mobile.twitter.com",
        "t.co",
        "com.twitter.android",
    ),
    "Wikipedia": ("wikipedia", "wikipedia.org", "www.wikipedia.org"),
    "Yahoo!": ("yahoo", "yahoo.com", "www.yahoo.com", "m.yahoo.com", "mail.yahoo.com", "yahoo! mail"),
}
# Hosts with all their subdomains. Yahoo is not among them: Ghost's own cases name search.yahoo.com by its host.
FAMILIES = {
    "facebook.com": "Facebook",
    "bsky.app": "Bluesky",
    "reddit.com": "Reddit",
    "flipboard.com": "Flipboard",
    "substack.com": "Substack",
    "wikipedia.org": "Wikipedia",
    "mail.yahoo.com": "Yahoo!",
}
KNOWN = {variant: name for name, variants in NAMES.items() for variant in (name.lower(), *variants)}


def name_source(referrer: str) -> str:
    """Return the source of a referrer, which may be a name, a host or a URL; '' is direct traffic."""
    host = _host(referrer)
    candidate = host or referrer.lower()
    if name := KNOWN.get(candidate):
        return name
    for family, name in FAMILIES.items():
        if candidate.endswith("." + family):
            return name
    return host.removeprefix("www.") if host else referrer


def _host(referrer: str) -> str:
    if "://" not in referrer:
        return ""
    try:
        return urlsplit(referrer).hostname or ""
    except ValueError:
        return ""
