from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from tests.support.environments import PUBLISHES, TARGET, TOKEN, WORKS, read
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.settings import Settings

VARIABLES = [field.metadata["name"] for field in fields(Settings)]


def test_delivery_by_spool_needs_the_tracker_token() -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY: spool needs TINYBIRD_TRACKER_TOKEN"):
        Settings.from_env({"PROXY_TARGET": "http://x", "DELIVERY": "spool"})


@pytest.mark.parametrize(
    ("environment", "mistakes"),
    [
        ({"DELIVERY": "pubsub"}, ["PUBSUB_TOPIC_PAGE_HITS_RAW: must be set", "GOOGLE_CLOUD_PROJECT: must be set"]),
        ({"PUBSUB_TOPIC_PAGE_HITS_RAW": "hits"}, ["GOOGLE_CLOUD_PROJECT: must be set with DELIVERY=pubsub"]),
        ({"SALT_STORE_TYPE": "firestore"}, ["GOOGLE_CLOUD_PROJECT: must be set with SALT_STORE_TYPE=firestore"]),
        ({"SALT_STORE_TYPE": "redis"}, ["REDIS_URL: must be set"]),
        ({"TINYBIRD_SYNC_AUTH": "key"}, ["TINYBIRD_SYNC_AUTH: needs TINYBIRD_TRACKER_TOKEN"]),
        ({"METRICS_TOKEN": "key"}, ["METRICS_TOKEN: has no effect"]),
        (
            {"WORKER_MODE": "true", "PROXY_TARGET": ""},
            [
                "PROXY_TARGET: must be set",
                "WORKER_MODE: needs TINYBIRD_TRACKER_TOKEN",
                "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW: must be set",
                "GOOGLE_CLOUD_PROJECT: must be set with WORKER_MODE=true",
            ],
        ),
    ],
)
def test_a_setting_without_its_companions_is_refused(environment: dict[str, str], mistakes: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{"TINYBIRD_TRACKER_TOKEN": "", "REQUEST_TOKENS": "true"} | environment)

    assert all(said.startswith(expected) for said, expected in zip(caught.value.mistakes, mistakes, strict=True))


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, True),
        ({"PROXY_TARGET": "http://store:7181"}, True),
        ({"REQUEST_TOKENS": "true"}, False),
        ({"REQUEST_TOKENS": "false"}, True),
        *(({"PROXY_TARGET": f"http://{host}:7181"}, False) for host in ("127.0.0.1", "localhost", "[::1]")),
        ({"PROXY_TARGET": "http://[::1]:7181", "STATS_TARGET": "http://[::1]:7181"}, False),
        ({"PROXY_TARGET": "http://[::1]:1", "STATS_TARGET": "http://[::1]:1", "TINYBIRD_ADMIN_TOKEN": "p.a"}, True),
        ({"PROXY_TARGET": "http://[::1]:1", "STATS_TARGET": "http://[::1]:2", "TINYBIRD_ADMIN_TOKEN": "p.a"}, False),
        (PUBLISHES, False),
        (PUBLISHES | {"PROXY_TARGET": ""}, False),
        ({"TINYBIRD_TRACKER_TOKEN": "two words"}, False),
    ],
)
def test_a_start_in_which_every_hit_would_be_answered_502_is_refused(
    environment: dict[str, str], refused: bool
) -> None:
    try:
        read(**{"TINYBIRD_TRACKER_TOKEN": ""} | environment)
        mistakes = []
    except ConfigurationError as error:
        mistakes = error.mistakes

    said = [each for each in mistakes if each.startswith("TINYBIRD_TRACKER_TOKEN: must be set, or every hit")]
    assert len(said) == refused


def test_tokens_of_requests_are_no_second_way_beside_a_token() -> None:
    with pytest.raises(ConfigurationError, match="REQUEST_TOKENS: has no effect"):
        read(REQUEST_TOKENS="true")


def test_a_topic_alone_means_that_hits_are_published() -> None:
    assert read(**PUBLISHES).delivery == "pubsub"
    assert read(**PUBLISHES, DELIVERY="direct").delivery == "direct"
    assert read(**PUBLISHES, PROXY_TARGET="").proxy_target == ""


def test_a_shared_salt_store_accepts_more_new_sites_by_default() -> None:
    shared = {"SALT_STORE_TYPE": "redis", "REDIS_URL": "redis://redis"}
    assert [read(**environment).max_new_sites_per_hour for environment in ({}, shared)] == [1000, 10_000]
    assert read(**shared, MAX_NEW_SITES_PER_HOUR="7").max_new_sites_per_hour == 7


def test_a_worker_is_one_process_by_default() -> None:
    assert read(**WORKS).web_concurrency == 1
    assert read(**WORKS, WEB_CONCURRENCY="3").web_concurrency == 3


@pytest.mark.parametrize(
    ("environment", "exporter", "endpoint"),
    [
        ({}, "none", None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp", "http://c:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, "none", "http://c:4318"),
        ({"OTEL_TRACE_EXPORTER": "jaeger"}, "otlp", "http://jaeger:4318"),
        ({"OTEL_TRACE_EXPORTER": "jaeger", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp", "http://c:4318"),
        ({"OTEL_TRACE_EXPORTER": "gcp"}, "gcp", None),
    ],
)
def test_the_exporter_of_traces_follows_from_any_of_its_variables(
    environment: dict[str, str], exporter: str, endpoint: str | None
) -> None:
    settings = read(**environment)

    assert (settings.otel_traces_exporter, settings.otel_exporter_otlp_endpoint) == (exporter, endpoint)


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("traffic_analytics.settings.optional_packages.find_spec", lambda _name: None)

    with pytest.raises(ConfigurationError) as caught:
        read(**WORKS, SALT_STORE_TYPE="redis", REDIS_URL="redis://x", METRICS="true", OTEL_TRACES_EXPORTER="gcp")

    extras = {mistake.partition("(extra ")[2].partition(")")[0] for mistake in caught.value.mistakes}
    assert extras == {"gcp", "redis", "metrics", "otel", "otel,gcp"}


def test_salts_in_memory_are_for_one_process() -> None:
    assert read(SALT_STORE_TYPE="memory").web_concurrency == 1
    with pytest.raises(ConfigurationError, match="WEB_CONCURRENCY: must be 1"):
        read(SALT_STORE_TYPE="memory", WEB_CONCURRENCY="2")


@pytest.mark.parametrize("environment", [{}, {"PROXY_TARGET": ""}, {"PROXY_TARGET": "  "}])
def test_the_target_is_required(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="PROXY_TARGET: must be set"):
        Settings.from_env(environment)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TINYBIRD_TRACKER_TOKEN", "hush-hush ü"),
        ("HMAC_SECRET", "hush-hush ü"),
        ("PROXY_TARGET", "https://user:hush-hush@x/"),
        ("PROXY_TARGET", "https://x/v0/events?token=hush-hush"),
        ("PROXY_TARGET", "https://hush-hush@"),
    ],
)
def test_a_secret_is_never_shown(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: text})

    assert name in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("nothing", ["", " ", "\t"])
def test_an_empty_variable_counts_as_not_set(nothing: str) -> None:
    others = [name for name in VARIABLES if name not in {"PROXY_TARGET", *TOKEN}]

    assert read(**dict.fromkeys(others, nothing)) == read()


def test_defaults_are_those_of_the_node_service() -> None:
    settings = read()

    assert settings == Settings(
        proxy_target=TARGET, tinybird_tracker_token="p.token", web_concurrency=settings.web_concurrency
    )
    assert (settings.port, settings.listen_host, settings.trust_proxy) == (3000, "0.0.0.0", True)
    assert (settings.log_level, settings.log_format) == ("info", "json")
    assert settings.hmac_secret is None
    assert settings.salt_store_type == "sqlite"
    assert settings.salt_file == Path("data/salts.sqlite3")
    assert settings.enable_salt_cleanup_scheduler is True
    assert not any((settings.tinybird_wait, settings.local_proxy, settings.enable_bot_detection_header))
    assert 1 <= settings.web_concurrency <= 512


@pytest.mark.parametrize("name", ["K_SERVICE", "GAE_SERVICE", "GOOGLE_CLOUD_PROJECT"])
def test_logs_have_googles_format_on_google_cloud_by_default(name: str) -> None:
    assert read(**{name: "x"}).log_format == "gcp"
    assert read(**{name: ""}).log_format == "json"
    assert read(**{name: "x"}, LOG_FORMAT="json").log_format == "json"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        read().port = 1  # type: ignore[misc]
