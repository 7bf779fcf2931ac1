"""Read the store's environment once, into a frozen object, and report every mistake in it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Self

from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.env_names import misspelled
from traffic_analytics.runtime.env_values import (
    is_loopback,
    mistakes_of_file,
    one_of,
    read_variables,
    secret,
    set_variables,
    site_uuids,
    variable,
    whole_number,
)
from traffic_analytics.runtime.logs import FORMATS, LEVELS

FALLBACKS = {"STORE_ADMIN_TOKEN": "TINYBIRD_ADMIN_TOKEN", "STORE_TRACKER_TOKEN": "TINYBIRD_TRACKER_TOKEN"}
"""Variables of the service that count if the store's own is not set: the store then accepts what the service sends."""

MOST_DAYS = 36_500
"""Longest retention, in days."""


def address(text: str) -> str:
    """Read the address to listen on."""
    if bind_host(text) is None:
        raise ValueError("must be HOST:PORT or unix:PATH")
    return text


def site_days(text: str) -> Mapping[str, int]:
    """Read days by site: UUID=DAYS, separated by commas."""
    days = {}
    for part in text.strip(", ").split(","):
        site, _, number = (each.strip() for each in part.partition("="))
        try:
            (uuid,) = site_uuids(site)
            days[uuid] = whole_number(1, MOST_DAYS)(number)
        except ValueError:
            raise ValueError(f"must be UUID=DAYS, separated by commas, each from 1 to {MOST_DAYS} days") from None
    return MappingProxyType(days)


@dataclass(frozen=True)
class Settings:
    """Every setting of the store; docs/operate/configuration.md lists them for operators."""

    bind: str = variable(
        "STORE_BIND",
        address,
        "Address to listen on: HOST:PORT or unix:PATH. Beyond loopback it needs a token.",
        default="127.0.0.1:7181",
    )
    data_dir: Path = variable(
        "STORE_DATA_DIR", Path, "Directory of the store's file, if not `store` in DATA_DIR.", default=Path("data/store")
    )
    admin_token: str | None = variable(
        "STORE_ADMIN_TOKEN",
        secret,
        "Token that grants everything and verifies Ghost's tokens (Ghost's `tinybird__adminToken`). "
        "Unset, TINYBIRD_ADMIN_TOKEN.",
    )
    tracker_token: str | None = variable(
        "STORE_TRACKER_TOKEN", secret, "Token that grants appending events. Unset, TINYBIRD_TRACKER_TOKEN."
    )
    stats_token: str | None = variable(
        "STORE_STATS_TOKEN", secret, "Token that grants reading the statistics of all sites."
    )
    retention_days: int | None = variable(
        "STORE_RETENTION_DAYS",
        whole_number(1, MOST_DAYS),
        "Age in days at which page hits are deleted, within the hour; unset, none are.",
    )
    site_retention_days: Mapping[str, int] | None = variable(
        "STORE_SITE_RETENTION_DAYS",
        site_days,
        "The same age for single sites, instead of STORE_RETENTION_DAYS: UUID=DAYS, separated by commas.",
    )
    memory_mb: int = variable(
        "STORE_MEMORY_MB", whole_number(128, 1_048_576), "Most memory that DuckDB may use, in MiB.", default=512
    )
    max_mb: int | None = variable(
        "STORE_MAX_MB",
        whole_number(100, 1_073_741_824),
        "Disk space in MiB at which appends are refused, and the service keeps the events; unset, there is no limit.",
    )
    threads: int = variable("STORE_THREADS", whole_number(1, 256), "Threads of a single query.", default=2)
    log_level: str = variable("LOG_LEVEL", one_of(*LEVELS), "Least severe record to log.", default="info")
    log_format: str = variable("LOG_FORMAT", one_of(*FORMATS), "Shape of log records.", default="json")

    @property
    def open_to_all(self) -> bool:
        """Return whether requests need no token, which is safe on loopback only."""
        return not (self.admin_token or self.tracker_token or self.stats_token)

    @property
    def url(self) -> str | None:
        """Return the store's URL for clients on this machine, or None if it listens on a Unix socket."""
        host = bind_host(self.bind)
        if not host:
            return None
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.bind.rpartition(':')[2]}"

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings from a mapping like os.environ; raises ConfigurationError with every mistake.

        A variable that is set to the empty string counts as not set.
        """
        given = set_variables(environment)
        for name, fallback in FALLBACKS.items():
            if fallback in given:
                given.setdefault(name, given[fallback])
        known = {each.metadata["name"] for each in fields(cls)} | {"DATA_DIR", *FALLBACKS.values()}
        values, mistakes = read_variables(cls, given)
        mistakes = [*mistakes_of_file(environment), *mistakes, *misspelled(given.keys(), known)]
        settings = cls(**{"data_dir": Path(given.get("DATA_DIR", "data")) / "store"} | values)
        if settings.open_to_all and not is_loopback(bind_host(settings.bind) or "localhost"):
            mistakes.append("STORE_BIND: must be a loopback address, or STORE_ADMIN_TOKEN must be set")
        tokens = [each for each in (settings.admin_token, settings.tracker_token, settings.stats_token) if each]
        if len(set(tokens)) < len(tokens):
            mistakes.append("STORE_ADMIN_TOKEN, STORE_TRACKER_TOKEN, STORE_STATS_TOKEN: must differ from each other")
        if mistakes:
            raise ConfigurationError(mistakes)
        return settings


def bind_host(bind: str) -> str | None:
    """Return the host of an address, '' for a Unix socket, None if it is neither."""
    if bind.startswith("unix:"):
        return "" if len(bind) > len("unix:") else None
    host, colon, port = bind.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
        return None
    return host.removeprefix("[").removesuffix("]")
