"""The text of a setting becomes a value, or is refused with the rule that it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

Read = Callable[[str], Any]


def whole_number(least: int, most: int) -> Read:
    """Read a whole number within bounds, both included."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def yes_or_no(text: str) -> bool:
    """Read true or false."""
    return bool(("false", "true").index(one_of("true", "false")(text.lower())))


def one_of(*choices: str) -> Read:
    """Read one of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def trusted_proxies(text: str) -> bool | int:
    """Read how many proxies stand in front: true for any number, false for none, or how many."""
    if text.isascii() and text.isdigit() and len(text) < 3:
        return int(text)
    try:
        return yes_or_no(text)
    except ValueError:
        raise ValueError("must be true, false or a number of proxies") from None


def http_url(text: str) -> str:
    """Read the URL of a server."""
    try:
        url = urlsplit(text)
        known = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
        requests.Request("POST", text).prepare()
        (url.hostname or "").encode("idna")  # what a look-up of the name would do
    except (ValueError, requests.RequestException):
        known = False
    if not known:
        raise ValueError("must be a URL like https://api.tinybird.co/v0/events")
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("must be a URL without query, fragment or credentials")
    return text.rstrip("/")


def statistics_url(text: str) -> str:
    """Read the URL of the host whose `/v0/pipes` are asked; the other addresses that Tinybird shows mean it too."""
    url = http_url(text)
    for path in ("/v0/pipes", "/v0/events", "/v0"):
        url = url.removesuffix(path)
    if "/v0/" in url or url.endswith(".json"):
        raise ValueError("must be a host like https://api.tinybird.co, without the name of a pipe")
    return url.rstrip("/")


def secret(text: str) -> str:
    """Read a token or key: anything that fits in a header."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text


def redis_url(text: str) -> str:
    """Read the URL of a Redis, which may hold its password."""
    try:
        url = urlsplit(text)
        known = url.scheme in ("redis", "rediss", "unix") and bool(url.hostname or url.path) and (url.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("must be a URL like redis://redis:6379/0 or rediss://user:password@host:6380/0")
    return text


def google_id(text: str) -> str:
    """Read the name of a project or database in Google Cloud."""
    if not re.fullmatch(r"[A-Za-z0-9()._~%+/:-]{1,255}", text):
        raise ValueError("must be a name as Google Cloud has them, such as my-project")
    return text


def pubsub_name(kind: Literal["topics", "subscriptions"]) -> Read:
    """Read the name of a topic or subscription, short or as a path that names its project, by Pub/Sub's own rules."""
    known = re.compile(rf"(projects/[A-Za-z0-9._:-]+/{kind}/)?(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{{2,254}}")

    def read(text: str) -> str:
        if not known.fullmatch(text):
            raise ValueError(
                "must be a name of 3 to 255 letters, digits and - _ . ~ + %, which begins with a letter but not with"
                f" goog, or a path like projects/my-project/{kind}/page-hits"
            )
        return text

    return read


def variable(name: str, read: Read, meaning: str, *, default: Any = None) -> Any:
    """Declare one environment variable: its name, how to read it, what it does, its value if it is not set."""
    return field(default=default, metadata={"name": name, "read": read, "meaning": meaning})
