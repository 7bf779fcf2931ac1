"""Values of variables are read, or refused with their rule."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import ON_GOOGLE, PUBLISHES, WORKS, read
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.settings import Settings

VARIABLES = [field.metadata["name"] for field in fields(Settings)]
SECRET = [field.metadata["name"] for field in fields(Settings) if field.metadata["is_secret"]]
COMPANIONS: dict[tuple[str, str], dict[str, str]] = {
    ("REQUEST_TOKENS", "true"): {"TINYBIRD_TRACKER_TOKEN": ""},
    ("DELIVERY", "pubsub"): PUBLISHES,
    ("PUBSUB_TOPIC_PAGE_HITS_RAW", "hits"): ON_GOOGLE,
    ("WORKER_MODE", "true"): WORKS,
    ("SALT_STORE_TYPE", "redis"): {"REDIS_URL": "redis://redis"},
    ("SALT_STORE_TYPE", "firestore"): ON_GOOGLE,
    ("METRICS_TOKEN", "token"): {"METRICS": "true"},
    ("DASHBOARD", "true"): {
        "LISTEN_HOST": "127.0.0.1",
        "STATS_TARGET": "http://127.0.0.1:7181",
        "TINYBIRD_ADMIN_TOKEN": "p.admin",
    },
}
"""Variables that a value needs beside it."""
UUIDS = ("940b73e9-4952-4752-b23d-9486f999c47e", "4c1dd2c0-63b3-4d35-ad1b-9b40e15f9f0e")
GOOD: list[tuple[str, str, Any]] = [
    ("TINYBIRD_SYNC_AUTH", "key", "key"),
    ("DELIVERY", "spool", "spool"),
    ("DELIVERY", "pubsub", "pubsub"),
    ("PUBSUB_TOPIC_PAGE_HITS_RAW", "hits", "hits"),
    ("PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW", "projects/p/subscriptions/hits-sub", "projects/p/subscriptions/hits-sub"),
    ("PUBSUB_TOPIC_SET_ASIDE", "set-aside", "set-aside"),
    *(("PUBSUB_TOPIC_SET_ASIDE", name, name) for name in ("abc", "A" * 255, "a-._~+%41", "gooseberries")),
    ("PUBSUB_TOPIC_SET_ASIDE", "projects/example.com:p/topics/hits", "projects/example.com:p/topics/hits"),
    ("PUBSUB_EMULATOR_HOST", "localhost:8085", "localhost:8085"),
    ("WORKER_MODE", "true", True),
    ("SALT_STORE_TYPE", "redis", "redis"),
    ("SALT_STORE_TYPE", "firestore", "firestore"),
    ("REDIS_URL", "rediss://user:pass@redis.example:6380/1", "rediss://user:pass@redis.example:6380/1"),
    ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("FIRESTORE_DATABASE_ID", "(default)", "(default)"),
    ("FIRESTORE_CLEANUP_BATCH_SIZE", "500", 500),
    ("TINYBIRD_WORKSPACE_ID", "a-workspace", "a-workspace"),
    ("DASHBOARD", "true", True),
    ("DASHBOARD_KEY", "k" * 32, "k" * 32),
    ("METRICS", "true", True),
    ("METRICS_TOKEN", "token", "token"),
    ("OTEL_TRACES_EXPORTER", "otlp", "otlp"),
    ("OTEL_TRACES_EXPORTER", "gcp", "gcp"),
    ("OTEL_TRACE_EXPORTER", "jaeger", "jaeger"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
    ("OTEL_SERVICE_NAME", "hits", "hits"),
    ("STATS_TARGET", "http://127.0.0.1:7181", "http://127.0.0.1:7181"),
    ("STATS_CACHE_SECONDS", "0", 0),
    ("TINYBIRD_ADMIN_TOKEN", "p.admin", "p.admin"),
    ("DELIVERY", "direct", "direct"),
    ("SPOOL_SYNC", "normal", "normal"),
    ("SPOOL_MAX_MB", "1", 1),
    ("BATCH_SIZE", "10000", 10_000),
    ("BATCH_FLUSH_INTERVAL_MS", "10", 10),
    ("PROXY_TARGET", "http://localhost", "http://localhost"),
    ("PROXY_TARGET", "http://[::1]:7181/v0/events/", "http://[::1]:7181/v0/events"),
    ("PROXY_TARGET", " https://api.tinybird.example ", "https://api.tinybird.example"),
    ("TINYBIRD_TRACKER_TOKEN", "p.eyJ1-_.x", "p.eyJ1-_.x"),
    ("REQUEST_TOKENS", "true", True),
    ("TINYBIRD_WAIT", "true", True),
    ("TINYBIRD_WAIT", "FALSE", False),
    ("PORT", "1", 1),
    ("PORT", "65535", 65535),
    *(("LISTEN_HOST", host, host) for host in ("::", "::1", "127.0.0.1", "localhost")),
    ("LISTEN_HOST", "[::1]", "::1"),
    ("ALLOWED_SITES", UUIDS[0], frozenset(UUIDS[:1])),
    ("ALLOWED_SITES", f" {UUIDS[0].upper()} , {UUIDS[1]},", frozenset(UUIDS)),
    ("MAX_NEW_SITES_PER_HOUR", "1", 1),
    ("IGNORE_ADDRESSES", "203.0.113.7, 2001:db8::/48", (ip_network("203.0.113.7"), ip_network("2001:db8::/48"))),
    ("IGNORE_ADDRESSES", "203.0.113.7/24,", (ip_network("203.0.113.0/24"),)),
    ("IGNORE_PATHS", "/p/*, */preview/", ("/p/*", "*/preview/")),
    ("EXTRA_BOTS", "/dev/null", ()),
    ("EXTRA_REFERRERS", "/dev/null", frozenset()),
    ("TRUST_PROXY", "true", True),
    ("TRUST_PROXY", "false", False),
    ("TRUST_PROXY", "0", 0),
    ("TRUST_PROXY", "3", 3),
    ("HMAC_SECRET", "k" * 300, "k" * 300),
    ("HMAC_VALIDATION_LOG_ONLY", "true", True),
    ("ENABLE_BOT_DETECTION_HEADER", "true", True),
    ("DATA_DIR", "/var/lib/x", Path("/var/lib/x")),
    ("SALT_STORE_TYPE", "sqlite", "sqlite"),
    ("SALT_STORE_TYPE", "file", "file"),
    ("SALT_STORE_TYPE", "memory", "memory"),
    ("SALT_STORE_FILE_PATH", "/x/salts", Path("/x/salts")),
    ("ENABLE_SALT_CLEANUP_SCHEDULER", "false", False),
    *(("LOG_LEVEL", level, level) for level in ("trace", "debug", "info", "warn", "error", "fatal", "silent")),
    *(("LOG_FORMAT", form, form) for form in ("json", "gcp", "pretty")),
    ("GOOGLE_CLOUD_PROJECT", "my-project", "my-project"),
    ("BUILD_LABEL", "v1 (abc)", "v1 (abc)"),
    ("LOCAL_PROXY", "true", True),
    ("LOG_EVENTS", "true", True),
    ("WEB_CONCURRENCY", "4", 4),
    ("THREADS", "512", 512),
]
NO_NUMBERS = ("0", "-1", "1.5", "x", "1e3", "٣", "²", "9" * 30, "0" * 20 + "99999", "0" * 19 + "19", "1 0")
NO_ANSWERS = ("yes", "1", "0", "on", "tru")
NAMED_BY_GOOGLE = (
    "PUBSUB_TOPIC_PAGE_HITS_RAW",
    "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW",
    "PUBSUB_TOPIC_SET_ASIDE",
    "FIRESTORE_DATABASE_ID",
    "GOOGLE_CLOUD_PROJECT",
)
NO_PUBSUB_NAMES = (
    *("t", "ab", "1hits", "-hits", "hits(1)", "hits:1", "späte", "goog", "google-hits"),
    *("/hits", "topics/hits", "projects/p/hits", "projects//topics/hits", "projects/p/topics/", "projects/p/topics/t"),
    *("projects/p/subscriptions/t", "projects/p/topics/hits/more", "projects/p/subscriptions/hits/more"),
)
BAD: list[tuple[str, tuple[str, ...]]] = [
    ("STATS_TARGET", ("api.tinybird.co", "ftp://x")),
    ("STATS_CACHE_SECONDS", ("-1", "1m")),
    ("TINYBIRD_ADMIN_TOKEN", ("two words",)),
    ("DELIVERY", ("pigeon", "Spool")),
    ("SPOOL_SYNC", ("off", "FULL")),
    ("SPOOL_MAX_MB", ("0", "1.5", "-1")),
    ("BATCH_SIZE", ("0", "10001", "many")),
    ("BATCH_FLUSH_INTERVAL_MS", ("9", "60001", "1s")),
    (
        "PROXY_TARGET",
        (
            "localhost:7181",
            "api.tinybird.co",
            "ftp://x",
            "http://",
            "http:///v0/events",
            "http://x:99999",
            "http://exa mple.com",
            "http://.foo.com",
            "http://a..b",
            f"http://{'a' * 64}.com",
            "http://x:a",
            "http://[::1",
            "https://x/v0/events?token=t",
            "https://x/#f",
            "https://user:pass@x/",
        ),
    ),
    ("PORT", (*NO_NUMBERS, "65536")),
    ("ALLOWED_SITES", (",", "blog.example", UUIDS[0] + ";" + UUIDS[1], UUIDS[0] + ",,x", UUIDS[0].replace("-", ""))),
    ("MAX_NEW_SITES_PER_HOUR", (*NO_NUMBERS, "1000001")),
    ("IGNORE_ADDRESSES", ("203.0.113.7;203.0.113.8", "203.0.113.256", "blog.example", "203.0.113.7/33", "1,,2")),
    ("IGNORE_PATHS", ("p/*", "/p/*,preview", ",")),
    ("EXTRA_BOTS", ("/nonexistent/bots.txt", "/")),
    ("EXTRA_REFERRERS", ("/nonexistent/referrers.txt", "/")),
    ("WEB_CONCURRENCY", (*NO_NUMBERS, "513")),
    ("THREADS", (*NO_NUMBERS, "513")),
    ("TRUST_PROXY", ("yes", "-1", "1.5", "100", "²", "10.0.0.0/8")),
    *((name, NO_ANSWERS) for name in ("TINYBIRD_WAIT", "HMAC_VALIDATION_LOG_ONLY", "ENABLE_BOT_DETECTION_HEADER")),
    ("REQUEST_TOKENS", NO_ANSWERS),
    ("LISTEN_HOST", ("127.0.0.256", "0.0.0.0:3000", "http://127.0.0.1", "*", "two words", "a" * 300)),
    *((name, NO_ANSWERS) for name in ("ENABLE_SALT_CLEANUP_SCHEDULER", "LOCAL_PROXY", "LOG_EVENTS")),
    *((name, ("two words", "späť", "a\nb", "a\0b")) for name in SECRET),
    ("REDIS_URL", ("redis", "http://redis", "redis://", "redis://x:port")),
    ("SALT_STORE_TYPE", ("postgres", "SQLITE")),
    ("FIRESTORE_CLEANUP_BATCH_SIZE", ("0", "501")),
    *((name, NO_ANSWERS) for name in ("WORKER_MODE", "METRICS", "DASHBOARD")),
    ("DASHBOARD_KEY", ("two words " * 4, "é" * 32)),
    *((name, ("two words", "a\nb", "x" * 256)) for name in NAMED_BY_GOOGLE),
    *((name, NO_PUBSUB_NAMES) for name in NAMED_BY_GOOGLE if name.startswith("PUBSUB_")),
    *((name, ("projects/p/subscriptions/hits",)) for name in NAMED_BY_GOOGLE if name.startswith("PUBSUB_TOPIC_")),
    ("PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW", ("projects/p/topics/hits",)),
    ("OTEL_TRACES_EXPORTER", ("jaeger", "OTLP")),
    ("OTEL_TRACE_EXPORTER", ("otlp", "true")),
    *((name, ("collector:4318", "http://")) for name in VARIABLES if name.endswith("_ENDPOINT")),
    ("LOG_LEVEL", ("verbose", "INFO", "warning")),
    ("LOG_FORMAT", ("text", "JSON")),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_valid_value_is_read(name: str, text: str, value: Any) -> None:
    settings = read(**COMPANIONS.get((name, text), {}) | {name: text})
    (field,) = [field for field in fields(Settings) if field.metadata["name"] == name]

    assert getattr(settings, field.name) == value
    assert type(getattr(settings, field.name)) is type(value)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD for text in texts])
def test_an_invalid_value_is_named_with_its_rule(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: text})

    mistake = caught.value.mistakes[0]
    assert mistake.startswith(f"{name}: must be ")


@pytest.mark.parametrize("name", ["EXTRA_BOTS", "EXTRA_REFERRERS"])
def test_every_bad_line_of_a_list_is_named_with_file_and_rule(name: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# comment\n\nspam.example\nab\nx y/z é\n")
    rule = {
        "EXTRA_BOTS": "must be at least 3 printable ASCII characters",
        "EXTRA_REFERRERS": "must be a host such as spam.example, without scheme and path",
    }[name]

    with pytest.raises(ConfigurationError) as caught:
        read(**{name: str(file)})

    assert caught.value.mistakes == [f"{name}: {file}, line 4: {rule}; {file}, line 5: {rule}"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("EXTRA_BOTS", "\ufeff# ours\nIntranet-Check/\n\n  Uptime Robot  \n", ("intranet-check/", "uptime robot")),
        ("EXTRA_REFERRERS", "Spam.Example\n-münchen.example\n", frozenset({"spam.example", "-xn--mnchen-3ya.example"})),
    ],
)
def test_a_list_is_read_from_its_file(name: str, text: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)

    assert getattr(read(**{name: str(tmp_path / "list.txt")}), name.lower()) == value


@pytest.mark.parametrize("entry", ["mozilla", "AppleWebKit/537.36", "iPhone", "chrome/"])
def test_a_part_of_common_browsers_is_no_bot(entry: str, tmp_path: Path) -> None:
    (tmp_path / "bots.txt").write_text(entry)

    with pytest.raises(ConfigurationError, match=r"bots.txt, line 1: must not be a part of every visitor's browser"):
        read(EXTRA_BOTS=str(tmp_path / "bots.txt"))


@pytest.mark.parametrize(
    "entry", ["http://spam.example", "spam.example/path", "spam.example:80", "localhost", "*.x.y", "- a.b"]
)
def test_a_referrer_is_a_bare_host(entry: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(entry)

    with pytest.raises(ConfigurationError, match=r"line 1: must be a host such as"):
        read(EXTRA_REFERRERS=str(tmp_path / "list.txt"))


def test_a_mistake_in_own_addresses_quotes_none_of_them() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(IGNORE_ADDRESSES="203.0.113.7;203.0.113.8")

    assert "203.0.113.8" not in str(caught.value)
    assert "203.0.113.7" not in repr(read(IGNORE_ADDRESSES="203.0.113.7"))


def test_every_variable_is_in_the_tables_above() -> None:
    assert {name for name, _, _ in GOOD} == set(VARIABLES)
    free_text = {
        "DATA_DIR",
        "SALT_STORE_FILE_PATH",
        "OTEL_SERVICE_NAME",
        "BUILD_LABEL",
        "TINYBIRD_WORKSPACE_ID",
        "PUBSUB_EMULATOR_HOST",
    }
    assert {name for name, _ in BAD} == set(VARIABLES) - free_text
    assert all(field.metadata["meaning"] for field in fields(Settings))


def test_all_mistakes_are_listed_at_once() -> None:
    bad = {name: texts[0] for name, texts in reversed(BAD)}

    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(bad)

    assert {mistake.partition(":")[0] for mistake in caught.value.mistakes} == set(bad)
    assert len(caught.value.mistakes) == len(bad)
    assert len(str(caught.value).splitlines()) == len(bad)
