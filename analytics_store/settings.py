"""The store's environment is read once, and a single run reports every mistake in it."""

import ipaddress
import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values

from analytics_store.errors import SettingsError

Read = Callable[[str], Any]

# The service's words, since both read one environment.
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "silent": logging.CRITICAL + 1,
}
FORMATS = ("json", "gcp", "pretty")
# One variable then serves both sides: what the service sends is what the store expects.
STAND_INS = {"STORE_ADMIN_TOKEN": "TINYBIRD_ADMIN_TOKEN", "STORE_TRACKER_TOKEN": "TINYBIRD_TRACKER_TOKEN"}


def address(text: str) -> str:
    """Read where to listen."""
    if bind_host(text) is None:
        raise ValueError("must be HOST:PORT or unix:PATH")
    return text


def token(text: str) -> str:
    """Read a token: anything that fits in a header."""
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must be printable ASCII without spaces, or no header could carry it")
    return text


def whole_number(least: int, most: int) -> Read:
    """Read a whole number within bounds, both included."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def one_of(words: Collection[str]) -> Read:
    """Read one of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def variable(name: str, read: Read, meaning: str, *, default: Any = None, shown: bool = True) -> Any:
    """Declare one environment variable: its name, how to read it, what it does, its value if it is not set."""
    return field(default=default, repr=shown, metadata={"name": name, "read": read, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """What an operator can decide; every token is kept out of the representation."""

    bind: str = variable(
        "STORE_BIND",
        address,
        "Where the store listens: HOST:PORT or unix:PATH. Beyond loopback it needs a token.",
        default="127.0.0.1:7181",
    )
    data_dir: Path = variable(
        "STORE_DATA_DIR", Path, "Directory of the store's file, if not `store` in DATA_DIR.", default=Path("data/store")
    )
    admin_token: str | None = variable(
        "STORE_ADMIN_TOKEN",
        token,
        "May do all, and verifies Ghost's tokens (Ghost's `tinybird__adminToken`). Unset, TINYBIRD_ADMIN_TOKEN.",
        shown=False,
    )
    tracker_token: str | None = variable(
        "STORE_TRACKER_TOKEN", token, "May append events. Unset, TINYBIRD_TRACKER_TOKEN.", shown=False
    )
    stats_token: str | None = variable("STORE_STATS_TOKEN", token, "May read the statistics of all sites.", shown=False)
    retention_days: int | None = variable(
        "STORE_RETENTION_DAYS",
        whole_number(1, 36_500),
        "Page hits that are older are deleted, within the hour; unset, all are kept.",
    )
    memory_mb: int = variable(
        "STORE_MEMORY_MB", whole_number(128, 1_048_576), "Most memory that DuckDB may take, in MiB.", default=512
    )
    threads: int = variable("STORE_THREADS", whole_number(1, 256), "Threads of a single question.", default=2)
    log_level: str = variable("LOG_LEVEL", one_of(LEVELS), "Least severe record to log.", default="info")
    log_format: str = variable("LOG_FORMAT", one_of(FORMATS), "Shape of log records.", default="json")

    @property
    def open_to_all(self) -> bool:
        """Whether nobody needs a token, which is safe on loopback only."""
        return not (self.admin_token or self.tracker_token or self.stats_token)

    @property
    def url(self) -> str | None:
        """Where this machine reaches the store; None if it listens on a Unix socket."""
        host = bind_host(self.bind)
        if not host:
            return None
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.bind.rpartition(':')[2]}"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings, or raise SettingsError with everything that is wrong with them.

        A variable that is set to the empty string counts as not set.
        """
        given = {name: value.strip() for name, value in env.items() if value.strip()}
        for name, stand_in in STAND_INS.items():
            if name not in given and stand_in in given:
                given[name] = given[stand_in]
        values: dict[str, Any] = {"data_dir": Path(given.get("DATA_DIR", "data")) / "store"}
        mistakes: list[str] = []
        for each in fields(cls):
            name = each.metadata["name"]
            if name in given:
                try:
                    values[each.name] = each.metadata["read"](given[name])
                except ValueError as error:
                    mistakes.append(f"{name} {error}")
        settings = cls(**values)
        if settings.open_to_all and not is_loopback(bind_host(settings.bind) or ""):
            mistakes.append("STORE_BIND is not a loopback address, so STORE_ADMIN_TOKEN must be set")
        tokens = [each for each in (settings.admin_token, settings.tracker_token, settings.stats_token) if each]
        if len(set(tokens)) < len(tokens):
            mistakes.append("STORE_ADMIN_TOKEN, STORE_TRACKER_TOKEN and STORE_STATS_TOKEN must differ from each other")
        if mistakes:
            raise SettingsError(mistakes)
        return settings


def read_environment() -> dict[str, str]:
    """Return the environment, completed by a `.env` file in the working directory if there is one."""
    in_file = {name: value or "" for name, value in dotenv_values(".env").items()}
    return {**in_file, **os.environ}  # noqa: TID251 - the one place that reads it


def bind_host(bind: str) -> str | None:
    """Tell the host of a bind, '' for a Unix socket, None if it is neither."""
    if bind.startswith("unix:"):
        return "" if len(bind) > len("unix:") else None
    host, colon, port = bind.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
        return None
    return host.removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than localhost is not trusted to."""
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
