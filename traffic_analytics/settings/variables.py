"""List every variable of the service with its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import urlsplit

from traffic_analytics.runtime.env_values import (
    access_key,
    google_id,
    http_url,
    listen_host,
    networks,
    one_of,
    path_globs,
    pubsub_name,
    redis_url,
    secret,
    site_uuids,
    statistics_url,
    trusted_proxies,
    variable,
    whole_number,
    yes_or_no,
)
from traffic_analytics.runtime.list_files import bot_list, referrer_list
from traffic_analytics.runtime.logs import FORMATS, LEVELS


@dataclass(frozen=True, slots=True)
class Variables:
    """All variables of the service; docs/operate/configuration.md repeats their descriptions for operators."""

    proxy_target: str = variable(
        "PROXY_TARGET",
        http_url,
        "Target of events: Tinybird's host or its `/v0/events`. Required, unless this process only publishes.",
        default="",
    )
    tinybird_tracker_token: str | None = variable(
        "TINYBIRD_TRACKER_TOKEN",
        secret,
        "Token that may append to `analytics_events`. Required, unless this process only publishes, REQUEST_TOKENS is "
        "`true`, or PROXY_TARGET is on this machine and needs none.",
    )
    request_tokens: bool = variable(
        "REQUEST_TOKENS",
        yes_or_no,
        "Forward the token that each request brings as `?token=`, in place of TINYBIRD_TRACKER_TOKEN; hits are then "
        "not spooled.",
        default=False,
    )
    tinybird_wait: bool = variable(
        "TINYBIRD_WAIT", yes_or_no, "Ask Tinybird to answer only when events are committed.", default=False
    )
    tinybird_sync_auth: str | None = variable(
        "TINYBIRD_SYNC_AUTH",
        secret,
        "Ghost's `tinybird__sync_auth_key`. If set, `/api/v1/tinybird-sync` accepts the rows of Ghost's automations.",
    )
    stats_target: str | None = variable(
        "STATS_TARGET",
        statistics_url,
        "Target of queries: Tinybird's host or the store. If set, `/v0/pipes/` is served.",
    )
    stats_cache_seconds: int = variable(
        "STATS_CACHE_SECONDS",
        whole_number(0, 3600),
        "How long a response to a query is cached, in seconds; 0 caches none.",
        default=60,
    )
    tinybird_admin_token: str | None = variable(
        "TINYBIRD_ADMIN_TOKEN",
        secret,
        "The workspace's admin token, Ghost's `tinybird__adminToken`. With it Ghost's tokens are checked here, and "
        "tokens of equal access share cached responses; without it each token has its own.",
    )
    tinybird_workspace_id: str = variable(
        "TINYBIRD_WORKSPACE_ID",
        str,
        "Ghost's `tinybird__workspaceId`, which the dashboard's tokens name; the store needs none.",
        default="self-hosted",
    )
    dashboard: bool = variable(
        "DASHBOARD", yes_or_no, "Serve `/dashboard/`. Needs STATS_TARGET and TINYBIRD_ADMIN_TOKEN.", default=False
    )
    dashboard_key: str | None = variable(
        "DASHBOARD_KEY",
        access_key,
        "Key to log in to the dashboard, at least 32 characters. Without it the dashboard serves this machine only.",
    )
    port: int = variable("PORT", whole_number(1, 65535), "Port to listen on.", default=3000)
    listen_host: str = variable("LISTEN_HOST", listen_host, "Address to listen on.", default="0.0.0.0")  # noqa: S104
    trust_proxy: bool | int = variable(
        "TRUST_PROXY",
        trusted_proxies,
        "Source of visitors' addresses: `true` is the leftmost address in X-Forwarded-For, a number N the Nth entry "
        "from the right, `false` the connection's own address.",
        default=True,
    )
    allowed_sites: frozenset[str] | None = variable(
        "ALLOWED_SITES",
        site_uuids,
        "UUIDs of the sites whose hits are accepted, separated by commas; unset, any site's are.",
    )
    max_new_sites_per_hour: int = variable(
        "MAX_NEW_SITES_PER_HOUR",
        whole_number(1, 1_000_000),
        "New sites that each worker process accepts within an hour; sites of the last 7 days and those of "
        "ALLOWED_SITES are not new. The default is 10000 with SALT_STORE_TYPE=redis or firestore.",
        default=1000,
    )
    ignore_addresses: tuple[IPv4Network | IPv6Network, ...] = variable(
        "IGNORE_ADDRESSES",
        networks,
        "Your own addresses, whose hits are not counted: addresses or networks, separated by commas.",
        default=(),
    )
    ignore_paths: tuple[str, ...] = variable(
        "IGNORE_PATHS",
        path_globs,
        "Paths whose hits are not counted, such as `/p/*` for previews: globs, separated by commas.",
        default=(),
    )
    extra_bots: tuple[str, ...] = variable(
        "EXTRA_BOTS",
        bot_list,
        "File with further bots: on each line a part of their user agents.",
        default=(),
    )
    extra_referrers: frozenset[str] = variable(
        "EXTRA_REFERRERS",
        referrer_list,
        "File with further hosts of referrer spam, one a line, subdomains included; a line `-HOST` exempts a host.",
        default=frozenset(),
    )
    hmac_secret: str | None = variable("HMAC_SECRET", secret, "If set, only signed URLs are accepted.")
    hmac_validation_log_only: bool = variable(
        "HMAC_VALIDATION_LOG_ONLY", yes_or_no, "Log bad signatures, but accept the hits.", default=False
    )
    enable_bot_detection_header: bool = variable(
        "ENABLE_BOT_DETECTION_HEADER", yes_or_no, "Answer bots with `x-ghost-bot-detected: true`.", default=False
    )
    data_dir: Path = variable("DATA_DIR", Path, "Directory of files that must survive a restart.", default=Path("data"))
    salt_store_type: str = variable(
        "SALT_STORE_TYPE",
        one_of("sqlite", "file", "memory", "redis", "firestore"),
        "Backend of the salts: `sqlite` (`file` means the same) for one machine, `redis` or `firestore` for several; "
        "`memory` is for tests and single processes.",
        default="sqlite",
    )
    salt_store_file_path: Path | None = variable(
        "SALT_STORE_FILE_PATH", Path, "The salts' file, if not `salts.sqlite3` in DATA_DIR."
    )
    redis_url: str | None = variable("REDIS_URL", redis_url, "Redis for the salts, with SALT_STORE_TYPE=redis.")
    firestore_database_id: str = variable(
        "FIRESTORE_DATABASE_ID",
        google_id,
        "Firestore database for the salts, with SALT_STORE_TYPE=firestore.",
        default="(default)",
    )
    firestore_cleanup_batch_size: int = variable(
        "FIRESTORE_CLEANUP_BATCH_SIZE",
        whole_number(1, 500),
        "Salts of past days that are deleted from Firestore in one request.",
        default=500,
    )
    enable_salt_cleanup_scheduler: bool = variable(
        "ENABLE_SALT_CLEANUP_SCHEDULER", yes_or_no, "Delete the salts of past days.", default=True
    )
    delivery: str = variable(
        "DELIVERY",
        one_of("direct", "spool", "pubsub"),
        "`direct` forwards each hit within its request and spools events that Tinybird does not accept; `spool` "
        "spools every hit and sends batches, which needs TINYBIRD_TRACKER_TOKEN; `pubsub` publishes each hit for "
        "workers to deliver, and is the default if PUBSUB_TOPIC_PAGE_HITS_RAW is set.",
        default="direct",
    )
    pubsub_topic_page_hits_raw: str | None = variable(
        "PUBSUB_TOPIC_PAGE_HITS_RAW", pubsub_name("topics"), "Pub/Sub topic to which hits are published."
    )
    pubsub_emulator_host: str | None = variable(
        "PUBSUB_EMULATOR_HOST", str, "Host and port of a Pub/Sub emulator to use instead of Google's Pub/Sub."
    )
    worker_mode: bool = variable(
        "WORKER_MODE",
        yes_or_no,
        "Accept no hits, but deliver published hits to Tinybird. Needs TINYBIRD_TRACKER_TOKEN.",
        default=False,
    )
    pubsub_subscription_page_hits_raw: str | None = variable(
        "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW",
        pubsub_name("subscriptions"),
        "Pub/Sub subscription from which a worker receives hits.",
    )
    pubsub_topic_set_aside: str | None = variable(
        "PUBSUB_TOPIC_SET_ASIDE",
        pubsub_name("topics"),
        "Pub/Sub topic for a worker's dead letters; without it, they are stored in DATA_DIR.",
    )
    spool_sync: str = variable(
        "SPOOL_SYNC",
        one_of("full", "normal"),
        "`full` waits for the disk before a hit counts as stored; `normal` survives killed processes, but may lose the "
        "last moments before a power cut.",
        default="full",
    )
    spool_max_mb: int = variable(
        "SPOOL_MAX_MB",
        whole_number(1, 1_000_000),
        "Maximum size of the spool, in MiB (about 800 events each).",
        default=1024,
    )
    batch_size: int = variable(
        "BATCH_SIZE", whole_number(1, 10_000), "Maximum number of events in a batch.", default=500
    )
    batch_flush_interval_ms: int = variable(
        "BATCH_FLUSH_INTERVAL_MS",
        whole_number(10, 60_000),
        "Maximum time that an event waits for its batch, in ms.",
        default=1000,
    )
    log_level: str = variable(
        "LOG_LEVEL",
        one_of(*LEVELS),
        "Least severe record to log.",
        default="info",
    )
    log_format: str = variable(
        "LOG_FORMAT",
        one_of(*FORMATS),
        "Shape of log records; `gcp` is the default on Google Cloud, `pretty` is for people.",
        default="json",
    )
    log_events: bool = variable(
        "LOG_EVENTS", yes_or_no, "Log each accepted event as it is forwarded; for development.", default=False
    )
    google_cloud_project: str | None = variable(
        "GOOGLE_CLOUD_PROJECT",
        google_id,
        "Google Cloud project of topics, subscriptions, salts and traces.",
    )
    metrics: bool = variable("METRICS", yes_or_no, "Serve `/metrics` for Prometheus.", default=False)
    metrics_token: str | None = variable("METRICS_TOKEN", secret, "If set, `/metrics` requires this bearer token.")
    otel_traces_exporter: str = variable(
        "OTEL_TRACES_EXPORTER",
        one_of("none", "otlp", "gcp"),
        "Destination of traces: `otlp` to OTEL_EXPORTER_OTLP_ENDPOINT (the default if that is set), `gcp` to Google "
        "Cloud Trace, `none` nowhere. OpenTelemetry's other variables apply too.",
        default="none",
    )
    otel_trace_exporter: str | None = variable(
        "OTEL_TRACE_EXPORTER",
        one_of("gcp", "jaeger"),
        "The original's name for OTEL_TRACES_EXPORTER; `jaeger` means `otlp`, by default to `http://jaeger:4318`.",
    )
    otel_exporter_otlp_endpoint: str | None = variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        http_url,
        "URL of a collector that accepts traces over HTTP, without `/v1/traces`.",
    )
    otel_exporter_otlp_traces_endpoint: str | None = variable(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", http_url, "The whole URL of a collector that accepts traces."
    )
    otel_service_name: str | None = variable(
        "OTEL_SERVICE_NAME",
        str,
        "Name of this service in traces; unset, `analytics-service`, or `analytics-worker` with WORKER_MODE.",
    )
    build_label: str = variable("BUILD_LABEL", str, "Name of this build in `/info`.", default="")
    local_proxy: bool = variable(
        "LOCAL_PROXY", yes_or_no, "Serve `/local-proxy`, which logs events in place of Tinybird.", default=False
    )
    web_concurrency: int = variable(
        "WEB_CONCURRENCY",
        whole_number(1, 512),
        "Worker processes; unset, one for each CPU within the container's CPU quota and memory, 8 at most, or one with "
        "WORKER_MODE or SALT_STORE_TYPE=memory.",
        default=0,
    )
    threads: int = variable("THREADS", whole_number(1, 512), "Threads of each worker process.", default=16)

    @property
    def salt_file(self) -> Path:
        """Path of the salts' file."""
        return self.salt_store_file_path or self.data_dir / "salts.sqlite3"

    @property
    def publishes(self) -> bool:
        """True if this process publishes hits to Pub/Sub."""
        return self.delivery == "pubsub" and not self.worker_mode

    @property
    def target_name(self) -> str:
        """Host of the target, with its port, or the name of the topic."""
        return str(self.pubsub_topic_page_hits_raw) if self.publishes else urlsplit(self.proxy_target).netloc
