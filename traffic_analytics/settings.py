"""The environment is read once, into a frozen object, or every mistake in it is listed and nothing starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from dotenv import dotenv_values

from traffic_analytics.errors import ConfigurationError

type_ = type
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


def variable(name: str, read: Read, meaning: str, *, default: Any = None) -> Any:
    """Declare one environment variable: its name, how to read it, what it does, its value if it is not set."""
    return field(default=default, metadata={"name": name, "read": read, "meaning": meaning})


SECRET = frozenset({"TINYBIRD_TRACKER_TOKEN", "TINYBIRD_ADMIN_TOKEN", "HMAC_SECRET"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the service; docs/configuration.md says the same to operators."""

    proxy_target: str = variable(
        "PROXY_TARGET", http_url, "Where events go: Tinybird's host or its `/v0/events`. Required."
    )
    tinybird_tracker_token: str | None = variable(
        "TINYBIRD_TRACKER_TOKEN",
        secret,
        "Token that may append to `analytics_events`. Without it each request must bring its own.",
    )
    tinybird_wait: bool = variable(
        "TINYBIRD_WAIT", yes_or_no, "Ask Tinybird to answer only when events are committed.", default=False
    )
    stats_target: str | None = variable(
        "STATS_TARGET",
        statistics_url,
        "Where statistics come from: Tinybird's host or the store. If set, `/v0/pipes/` is served.",
    )
    stats_cache_seconds: int = variable(
        "STATS_CACHE_SECONDS",
        whole_number(0, 3600),
        "How long an answer about statistics is given again, in seconds; 0 keeps none.",
        default=60,
    )
    tinybird_admin_token: str | None = variable(
        "TINYBIRD_ADMIN_TOKEN",
        secret,
        "The workspace's admin token, Ghost's `tinybird__adminToken`. With it Ghost's tokens are checked here, and "
        "those of equal rights share answers; without it each token has its own.",
    )
    port: int = variable("PORT", whole_number(1, 65535), "Port to listen on.", default=3000)
    listen_host: str = variable("LISTEN_HOST", str, "Address to listen on.", default="0.0.0.0")  # noqa: S104
    trust_proxy: bool | int = variable(
        "TRUST_PROXY",
        trusted_proxies,
        "Whom to believe about visitors' addresses: `true` takes the leftmost X-Forwarded-For entry, a number N the "
        "Nth from the right, `false` the connection's own address.",
        default=True,
    )
    hmac_secret: str | None = variable("HMAC_SECRET", secret, "If set, only signed URLs are accepted.")
    hmac_validation_log_only: bool = variable(
        "HMAC_VALIDATION_LOG_ONLY", yes_or_no, "Log bad signatures, but accept the hits.", default=False
    )
    enable_bot_detection_header: bool = variable(
        "ENABLE_BOT_DETECTION_HEADER", yes_or_no, "Tell bots with `x-ghost-bot-detected: true`.", default=False
    )
    data_dir: Path = variable("DATA_DIR", Path, "Directory for what must survive a restart.", default=Path("data"))
    salt_store_type: Literal["sqlite", "file", "memory"] = variable(
        "SALT_STORE_TYPE",
        one_of("sqlite", "file", "memory"),
        "Where salts are kept; `file` means `sqlite`; `memory` is for tests and single processes.",
        default="sqlite",
    )
    salt_store_file_path: Path | None = variable(
        "SALT_STORE_FILE_PATH", Path, "The salts' file, if not `salts.sqlite3` in DATA_DIR."
    )
    enable_salt_cleanup_scheduler: bool = variable(
        "ENABLE_SALT_CLEANUP_SCHEDULER", yes_or_no, "Delete the salts of past days.", default=True
    )
    delivery: str = variable(
        "DELIVERY",
        one_of("direct", "spool"),
        "`direct` forwards each hit within its request and spools what Tinybird does not take; `spool` spools every "
        "hit and sends batches. `spool` needs TINYBIRD_TRACKER_TOKEN.",
        default="direct",
    )
    spool_sync: str = variable(
        "SPOOL_SYNC",
        one_of("full", "normal"),
        "`full` waits for the disk before a hit counts as kept; `normal` survives killed processes, but a power cut "
        "may take the last moments.",
        default="full",
    )
    spool_max_mb: int = variable(
        "SPOOL_MAX_MB",
        whole_number(1, 1_000_000),
        "Most that the spool may hold, in MiB (about 800 events each).",
        default=1024,
    )
    batch_size: int = variable("BATCH_SIZE", whole_number(1, 10_000), "Most events that one batch holds.", default=500)
    batch_flush_interval_ms: int = variable(
        "BATCH_FLUSH_INTERVAL_MS",
        whole_number(10, 60_000),
        "Longest that an event waits for its batch, in ms.",
        default=1000,
    )
    log_level: str = variable(
        "LOG_LEVEL",
        one_of("trace", "debug", "info", "warn", "error", "fatal", "silent"),
        "Least severe record to log.",
        default="info",
    )
    log_format: str = variable(
        "LOG_FORMAT",
        one_of("json", "gcp", "pretty"),
        "Shape of log records; `gcp` is the default on Google Cloud, `pretty` is for people.",
        default="json",
    )
    log_events: bool = variable(
        "LOG_EVENTS", yes_or_no, "Log each accepted event as it is sent on; for development.", default=False
    )
    google_cloud_project: str | None = variable(
        "GOOGLE_CLOUD_PROJECT", str, "Google Cloud project, to which traces in logs belong."
    )
    build_label: str = variable("BUILD_LABEL", str, "What `/info` calls this build.", default="")
    local_proxy: bool = variable(
        "LOCAL_PROXY", yes_or_no, "Serve `/local-proxy`, which logs events as Tinybird would take them.", default=False
    )
    web_concurrency: int = variable(
        "WEB_CONCURRENCY",
        whole_number(1, 512),
        "Worker processes; unset, one for each CPU, or one with SALT_STORE_TYPE=memory.",
        default=0,
    )
    threads: int = variable("THREADS", whole_number(1, 512), "Threads of each worker process.", default=16)

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from a mapping like os.environ; raises ConfigurationError with every mistake.

        A variable that is set to the empty string counts as not set.
        """
        values: dict[str, Any] = {}
        mistakes: list[str] = []
        for each in fields(cls):
            name = each.metadata["name"]
            text = environment.get(name, "").strip()
            if not text:
                continue
            try:
                values[each.name] = each.metadata["read"](text)
            except ValueError as error:
                secret_inside = name in SECRET or "@" in text or "?" in text  # credentials or a token in a URL
                mistakes.append(f"{name}: {error}" + ("" if secret_inside else f", but is {text[:80]!r}"))
        if not environment.get("PROXY_TARGET", "").strip():
            mistakes.append("PROXY_TARGET: must be set, for example to https://api.tinybird.co/v0/events")
        if values.get("delivery") == "spool" and not environment.get("TINYBIRD_TRACKER_TOKEN", "").strip():
            mistakes.append(
                "DELIVERY: spool needs TINYBIRD_TRACKER_TOKEN, since the tokens that requests bring are not stored"
            )
        if values.get("stats_target") and values.get("tinybird_admin_token") and find_spec("jwt") is None:
            mistakes.append("TINYBIRD_ADMIN_TOKEN: needs PyJWT: pip install 'traffic-analytics[stats]'")
        one_process = values.get("salt_store_type") == "memory"
        values.setdefault("web_concurrency", 1 if one_process else len(os.sched_getaffinity(0)))
        if one_process and values["web_concurrency"] > 1:
            mistakes.append(
                "WEB_CONCURRENCY: must be 1 with SALT_STORE_TYPE=memory, or each process names visitors anew"
            )
        if mistakes:
            raise ConfigurationError(mistakes)
        if any(environment.get(name, "").strip() for name in ("K_SERVICE", "GAE_SERVICE", "GOOGLE_CLOUD_PROJECT")):
            values.setdefault("log_format", "gcp")
        return cls(**values)

    @property
    def salt_file(self) -> Path:
        """Where the salts' file is."""
        return self.salt_store_file_path or self.data_dir / "salts.sqlite3"


def read_environment() -> dict[str, str]:
    """Return the environment, completed by a `.env` file in the working directory (for development) if there is one."""
    in_file = {name: value or "" for name, value in dotenv_values(".env").items()}
    return {**in_file, **os.environ}  # noqa: TID251 - the one place that reads it
