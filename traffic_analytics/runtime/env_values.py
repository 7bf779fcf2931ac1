"""Read the environment and turn the texts of variables into values, or name the rule that a text breaks."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

from traffic_analytics.runtime.env_file import read_env_file
from traffic_analytics.runtime.uuids import is_uuid

SHORTEST_ACCESS_KEY = 32
"""Length of the shortest key to log in with, in characters."""

Read = Callable[[str], Any]
"""A reader: it returns the value of a text, or raises ValueError with the rule that the text breaks."""


class BadFile(ValueError):
    """A variable names a file that breaks a rule; the message names file and rule."""


class Environment(dict[str, str]):
    """The variables by name, and the mistakes of the file that completes them."""

    def __init__(self, variables: Mapping[str, str], mistakes: list[str]) -> None:
        super().__init__(variables)
        self.mistakes = mistakes


def read_environment() -> Environment:
    """Return the environment, completed by a `.env` file in the working directory; the environment takes precedence.

    The process's own environment is not changed. An entry point whose libraries read variables themselves exports it.
    """
    in_file, mistakes = read_env_file(Path(".env"))
    return Environment(in_file | os.environ, mistakes)  # noqa: TID251 - the one place that reads it


def mistakes_of_file(environment: Mapping[str, str]) -> list[str]:
    """Return the mistakes of the file that completes an environment; a plain mapping has none."""
    return list(environment.mistakes) if isinstance(environment, Environment) else []


def variable(name: str, read: Read, meaning: str, *, default: Any = None) -> Any:
    """Declare one environment variable: its name, its reader, its meaning, its value if it is not set.

    A variable whose reader is `secret`, `access_key`, `redis_url` or `networks` is left out of the representation.
    """
    is_secret = read in (secret, access_key, redis_url, networks)
    metadata = {"name": name, "read": read, "meaning": meaning, "is_secret": is_secret}
    return field(default=default, repr=not is_secret, metadata=metadata)


def set_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set, stripped; an empty or blank one counts as not set."""
    return {name: text.strip() for name, text in environment.items() if text.strip()}


def read_variables(settings: type[Any], given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Read the variables that a settings class declares; return the values by field, and every mistake.

    `given` holds the variables that are set. A mistake names the variable and the rule; it repeats the text unless that
    is a secret, or a URL that may hold one.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for each in fields(settings):
        name = each.metadata["name"]
        if name not in given:
            continue
        text = given[name]
        try:
            values[each.name] = each.metadata["read"](text)
        except ValueError as error:
            is_secret = each.metadata["is_secret"] or "@" in text or "?" in text  # credentials or a token in a URL
            is_complete = is_secret or isinstance(error, BadFile)
            mistakes.append(f"{name}: {error}" + ("" if is_complete else f", but is {text[:80]!r}"))
    return values, mistakes


def whole_number(least: int, most: int) -> Read:
    """Read a whole number within bounds, both included."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def yes_or_no(text: str) -> bool:
    """Read true or false."""
    return bool(one_of("true", "false")(text.lower()) == "true")


def one_of(*choices: str) -> Read:
    """Read one of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def site_uuids(text: str) -> frozenset[str]:
    """Read UUIDs separated by commas, in lower case."""
    uuids = [part.strip().lower() for part in text.strip(", ").split(",")]
    if not all(map(is_uuid, uuids)):
        raise ValueError("must be UUIDs separated by commas")
    return frozenset(uuids)


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read addresses and networks separated by commas."""
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.strip(", ").split(","))
    except ValueError:
        raise ValueError("must be addresses or networks separated by commas, such as 203.0.113.0/24") from None


def path_globs(text: str) -> tuple[str, ...]:
    """Read globs of paths separated by commas."""
    globs = tuple(part.strip() for part in text.strip(", ").split(","))
    if not all(glob.startswith(("/", "*")) for glob in globs):
        raise ValueError("must be paths that begin with / or *, separated by commas, such as /p/*")
    return globs


def trusted_proxies(text: str) -> bool | int:
    """Read the number of proxies in front of the service: true for any number, false for none."""
    if text.isascii() and text.isdigit() and len(text) < 3:
        return int(text)
    try:
        return yes_or_no(text)
    except ValueError:
        raise ValueError("must be true, false or a number of proxies") from None


def listen_host(text: str) -> str:
    """Read an address to listen on, or a name that this machine resolves to one."""
    host = text.removeprefix("[").removesuffix("]")
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ValueError("must be an address of this machine, such as 0.0.0.0, 127.0.0.1 or ::") from None
    return host


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host; no name but localhost is trusted to be loopback."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def http_url(text: str) -> str:
    """Read the URL of a server."""
    try:
        url = urlsplit(text)
        is_valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
        requests.Request("POST", text).prepare()
        (url.hostname or "").encode("idna")  # the encoding that a look-up of the name uses
    except (ValueError, requests.RequestException):
        is_valid = False
    if not is_valid:
        raise ValueError("must be a URL like https://api.tinybird.co/v0/events")
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("must be a URL without query, fragment or credentials")
    return text.rstrip("/")


def statistics_url(text: str) -> str:
    """Read the URL of the host that serves `/v0/pipes`; Tinybird's other addresses are shortened to it."""
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


def access_key(text: str) -> str:
    """Read a key that a person enters and that no one may guess."""
    if len(secret(text)) < SHORTEST_ACCESS_KEY:
        raise ValueError(
            f"must have at least {SHORTEST_ACCESS_KEY} characters, for example from `openssl rand -hex 32`"
        )
    return text


def redis_url(text: str) -> str:
    """Read the URL of a Redis, which may hold its password."""
    try:
        url = urlsplit(text)
        is_valid = url.scheme in ("redis", "rediss", "unix") and bool(url.hostname or url.path) and (url.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("must be a URL like redis://redis:6379/0 or rediss://user:password@host:6380/0")
    return text


def google_id(text: str) -> str:
    """Read the name of a project or database in Google Cloud."""
    if not re.fullmatch(r"[A-Za-z0-9()._~%+/:-]{1,255}", text):
        raise ValueError("must be a name as Google Cloud has them, such as my-project")
    return text


def pubsub_name(kind: Literal["topics", "subscriptions"]) -> Read:
    """Read the name of a topic or subscription by Pub/Sub's rules: short, or a path that names its project."""
    pattern = re.compile(rf"(projects/[A-Za-z0-9._:-]+/{kind}/)?(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{{2,254}}")

    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(
                "must be a name of 3 to 255 letters, digits and - _ . ~ + %, which begins with a letter but not with"
                f" goog, or a path like projects/my-project/{kind}/page-hits"
            )
        return text

    return read
