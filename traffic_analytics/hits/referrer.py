"""Classify referrers: host, name and medium of a referring URL, from a list of two thousand known sites."""

import json
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import ada_url

GHOST = "Ghost Network"
CACHED_URLS = 2048
"""Capacity of the cache of parsed URLs, in entries; the pages of a site and their referrers repeat."""
CACHED_URL_LENGTH = 256
"""Length of the longest URL that is cached, in characters."""


class Referrer(NamedTuple):
    """Referrer of a hit: the host, its name, and its medium (`search`, `social`, …)."""

    url: str | None
    source: str | None
    medium: str | None


class Known(NamedTuple):
    """Name and medium of a known site."""

    source: str
    medium: str


def classify(url: str | None, source: str | None, medium: str | None, page_href: str) -> Referrer | None:
    """Classify the referrer of a hit on `page_href`; None if the hit has none.

    `url`, `source` and `medium` are those of the page's script. The first matching rule decides. The rules are those
    of the Node service, and one before them: a blog is not a source of its own traffic.
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


def host_of(url: str) -> str | None:
    """Return the host of a URL as browsers read it: lower case, in ASCII. None if it has none."""
    return _host_and_path(url)[0]


def _host_and_path(url: str) -> tuple[str | None, str]:
    """Split a URL as browsers do. Return no host and an empty path for an invalid URL."""
    return _cached_host_and_path(url) if len(url) <= CACHED_URL_LENGTH else _parse_host_and_path(url)


def _parse_host_and_path(url: str) -> tuple[str | None, str]:
    try:
        parts = ada_url.parse_url(url, ("hostname", "pathname"))
    except ValueError:  # UnicodeEncodeError, from a lone surrogate, included
        return None, ""
    return (parts["hostname"] or None), parts["pathname"]


_cached_host_and_path = lru_cache(CACHED_URLS)(_parse_host_and_path)


def _is_same_site(host: str, page_href: str) -> bool:
    page_host, _path = _host_and_path(page_href)
    return page_host is not None and page_host.removeprefix("www.") == host.removeprefix("www.")


def _known_site(host: str, path: str) -> Known | None:
    """Look up a site by host and path: the longest known prefix of whole path segments wins."""
    sites, deepest = _sites()
    # Limit the segments to those of known sites: a path may be 20 KB of slashes.
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
    """Return the known sources by lower-case name; the first of several sites with one name wins."""
    sources: dict[str, Known] = {}
    for known in _list().values():
        sources.setdefault(known.source.lower(), known)
    return sources
