"""A referring URL names a host; of two thousand hosts it is known what people call them and of what kind they are."""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import ada_url

GHOST = "Ghost Network"


class Referrer(NamedTuple):
    """Where a visitor came from: the host, its name, and its kind (`search`, `social`, …)."""

    url: str | None
    source: str | None
    medium: str | None


class Known(NamedTuple):
    """What the list says of a site."""

    source: str
    medium: str


def classify(url: str | None, source: str | None, medium: str | None, page_href: str) -> Referrer | None:
    """Name the referrer of a hit on `page_href`, or return None if there is none to name.

    `url`, `source` and `medium` are as the page's script found them. The first rule that fits decides, as in the Node
    service, which lacks only the first one: a blog is no source of its own traffic.
    """
    if not url:
        return None
    host, path = _host_and_path(url)
    if not source and host and _is_same_site(host, page_href):
        return None
    if source == "ghost-explore" or (host == "ghost.org" and path.startswith("/explore")):
        return Referrer(host, "Ghost Explore", GHOST)
    if host == "ghost.org":
        return Referrer(host, "Ghost.org", GHOST)
    if source and source.endswith("-newsletter"):
        return Referrer(host, source.replace("-", " "), "Email")
    site = _known_site(host, path) if host else None
    if source:
        if named := _sources().get(source.lower()):
            return Referrer(host, named.source, named.medium)
        return Referrer(host, source, medium or (site.medium if site else None))
    if site:
        return Referrer(host, site.source, site.medium)
    return Referrer(host, host, None)


def _host_and_path(url: str) -> tuple[str | None, str]:
    """Take a URL apart as browsers do. What is no URL, or has no host, has neither."""
    try:
        parts = ada_url.parse_url(url, ("hostname", "pathname"))
    except ValueError:  # which a lone surrogate's UnicodeEncodeError is, too
        return None, ""
    return (parts["hostname"] or None), parts["pathname"]


def _is_same_site(host: str, page_href: str) -> bool:
    page_host, _path = _host_and_path(page_href)
    return page_host is not None and page_host.removeprefix("www.") == host.removeprefix("www.")


def _known_site(host: str, path: str) -> Known | None:
    """Look a site up by host and path, the longest known beginning of the path first, in whole segments."""
    sites, deepest = _sites()
    # Only as many segments as a known site has: a path may be 20 KB of slashes.
    segments = path.split("/", deepest + 1)[1 : deepest + 1]
    for depth in range(len(segments), -1, -1):
        if known := sites.get("/".join((host, *segments[:depth]))):
            return known
    return None


@cache
def _list() -> dict[str, Known]:
    text = (files("traffic_analytics") / "data" / "referrers.json").read_text(encoding="utf-8")
    return {key: Known(entry["source"], entry["medium"]) for key, entry in json.loads(text).items()}


@cache
def _sites() -> tuple[dict[str, Known], int]:
    """Return the known sites by host, or host and path, and the number of segments of the longest path."""
    sites: dict[str, Known] = {}
    for key, known in _list().items():
        host, slash, path = key.rstrip("/").partition("/")
        sites.setdefault(host.lower() + slash + path, known)
    return sites, max(site.count("/") for site in sites)


@cache
def _sources() -> dict[str, Known]:
    """Return the known sources by name in lower case; of several sites of one name the first stands for all."""
    sources: dict[str, Known] = {}
    for known in _list().values():
        sources.setdefault(known.source.lower(), known)
    return sources
