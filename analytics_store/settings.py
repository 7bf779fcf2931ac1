"""The store's environment is read once, and a single run reports every mistake in it."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from analytics_store.errors import SettingsError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class Settings:
    """What an operator can decide; every token is kept out of the representation."""

    bind: str = "127.0.0.1:7181"
    data_dir: Path = Path("data/store")
    admin_token: str | None = field(default=None, repr=False)
    tracker_token: str | None = field(default=None, repr=False)
    stats_token: str | None = field(default=None, repr=False)
    retention_days: int | None = None
    memory_mb: int = 512
    threads: int = 2
    log_level: str = "INFO"

    @property
    def open_to_all(self) -> bool:
        """Whether nobody needs a token, which is safe on loopback only."""
        return not (self.admin_token or self.tracker_token or self.stats_token)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings, or raise SettingsError with everything that is wrong with them."""
        mistakes: list[str] = []
        number = _number_reader(env, mistakes)
        bind = env.get("STORE_BIND") or cls.bind
        data_dir = env.get("STORE_DATA_DIR") or str(Path(env.get("DATA_DIR") or "data") / "store")
        level = (env.get("LOG_LEVEL") or cls.log_level).upper()
        if level not in LEVELS:
            mistakes.append(f"LOG_LEVEL must be one of {', '.join(LEVELS)}")
        settings = cls(
            bind=bind,
            data_dir=Path(data_dir),
            admin_token=_token(env, "STORE_ADMIN_TOKEN", mistakes),
            tracker_token=_token(env, "STORE_TRACKER_TOKEN", mistakes),
            stats_token=_token(env, "STORE_STATS_TOKEN", mistakes),
            retention_days=number("STORE_RETENTION_DAYS", None, 1, 36_500),
            memory_mb=number("STORE_MEMORY_MB", cls.memory_mb, 128, 1_048_576) or cls.memory_mb,
            threads=number("STORE_THREADS", cls.threads, 1, 256) or cls.threads,
            log_level=level if level in LEVELS else cls.log_level,
        )
        host = bind_host(bind)
        if host is None:
            mistakes.append("STORE_BIND must be HOST:PORT or unix:PATH")
        elif settings.open_to_all and not is_loopback(host):
            mistakes.append("STORE_BIND is not a loopback address, so STORE_ADMIN_TOKEN must be set")
        given = [t for t in (settings.admin_token, settings.tracker_token, settings.stats_token) if t]
        if len(set(given)) < len(given):
            mistakes.append("STORE_ADMIN_TOKEN, STORE_TRACKER_TOKEN and STORE_STATS_TOKEN must differ from each other")
        if mistakes:
            raise SettingsError(mistakes)
        return settings


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


def _token(env: Mapping[str, str], name: str, mistakes: list[str]) -> str | None:
    token = env.get(name, "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        mistakes.append(f"{name} must be printable ASCII without spaces, or no header could carry it")
    return token or None


def _number_reader(env: Mapping[str, str], mistakes: list[str]) -> Callable[[str, int | None, int, int], int | None]:
    def number(name: str, default: int | None, least: int, most: int) -> int | None:
        text = env.get(name, "").strip()
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            mistakes.append(f"{name} must be a whole number from {least} to {most}")
            return default
        return int(text)

    return number
