"""Start service and store for development: the processes of Procfile.dev, configured for each other.

Variables of the environment and of `.env` take precedence over DEFAULTS. The store's tokens are created once and stored
in DATA_DIR.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

from dotenv import dotenv_values
from honcho.environ import parse_procfile
from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer

from analytics_store.settings import FALLBACKS, bind_host
from analytics_store.settings import Settings as StoreSettings
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.env_values import Environment, is_loopback, mistakes_of_file, read_environment
from traffic_analytics.settings import Settings

DEFAULTS = {
    "LOG_EVENTS": "true",
    "LOG_FORMAT": "pretty",
    "DATA_DIR": "data/development",
    "LISTEN_HOST": "127.0.0.1",
    "WEB_CONCURRENCY": "2",  # more than one, as in production, but few log records
    "STATS_CACHE_SECONDS": "1",  # a developer expects a hit to be counted at once
}
TOKENS = ("STORE_ADMIN_TOKEN", "STORE_TRACKER_TOKEN", "STORE_STATS_TOKEN")


def complete(given: dict[str, str]) -> dict[str, str]:
    """Fill in the variables that are not given; raises ConfigurationError with the mistakes in those that are."""
    environment = DEFAULTS | {name: value for name, value in given.items() if value.strip()}
    for name, fallback in FALLBACKS.items():
        if fallback in environment:
            environment.setdefault(name, environment[fallback])
    environment = load_tokens(Path(environment["DATA_DIR"]) / "tokens.env") | environment
    store = StoreSettings.from_env(Environment(environment, mistakes_of_file(given)))
    if store.url is not None and "PROXY_TARGET" not in environment:
        environment["PROXY_TARGET"] = store.url
        environment.setdefault("TINYBIRD_TRACKER_TOKEN", environment["STORE_TRACKER_TOKEN"])
        environment.setdefault("STATS_TARGET", store.url)
    if store.url is not None and environment.get("STATS_TARGET") == store.url:
        environment.setdefault("TINYBIRD_ADMIN_TOKEN", environment["STORE_ADMIN_TOKEN"])
        if is_loopback(environment["LISTEN_HOST"]) or "DASHBOARD_KEY" in environment:
            environment.setdefault("DASHBOARD", "true")
    Settings.from_env(environment)
    return environment


def load_tokens(file: Path) -> dict[str, str]:
    """Read the tokens of an earlier start, or create them; no other user may read the file."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={secrets.token_urlsafe(32)}\n" for name in TOKENS]
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.writelines(lines)
    tokens = {name: value for name, value in dotenv_values(file).items() if value}
    if set(tokens) != set(TOKENS):
        sys.exit(f"{file} is damaged: it must set {', '.join(TOKENS)}. Delete it, and the next start creates new ones.")
    return tokens


def taken_ports(environment: dict[str, str]) -> list[str]:
    """Return one line for each port that cannot be listened on; it names the variable and a value to try."""
    settings, store = Settings.from_env(environment), StoreSettings.from_env(environment)
    wanted = [("PORT", settings.listen_host, settings.port, "")]
    if host := bind_host(store.bind):
        wanted.append(("STORE_BIND", host, int(store.bind.rpartition(":")[2]), f"{store.bind.rpartition(':')[0]}:"))
    lines = []
    for name, host, port, prefix in wanted:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
            try:
                probe.bind((host, port))
            except OSError as error:
                advice = f"Choose another one: make run {name}={prefix}{port % 65_535 + 1}"
                lines.append(f"{name}: {port} cannot be used ({error.strerror}). {advice}")
    return lines


def main() -> None:
    """Start all processes; they end together, on Ctrl-C or when one of them ends."""
    try:
        environment = complete(read_environment())
    except ConfigurationError as error:
        sys.exit(f"Service and store cannot start, the settings hold mistakes:\n{error}")
    if taken := taken_ports(environment):
        sys.exit("\n".join(taken))
    print("Starting the store and the service", flush=True)  # noqa: T201 - for the terminal
    beside_python = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([beside_python, environment.get("PATH", os.defpath)])
    # Lines have no prefix, so that the printed commands can be pasted.
    manager = Manager(Printer(sys.stdout, prefix=False))
    for name, command in parse_procfile(Path("Procfile.dev").read_text(encoding="utf-8")).processes.items():
        manager.add_process(name, command, env=environment)
    manager.loop()
    exit_codes_of_signals = {signal["rc"] for signal in SIGNALS.values()}
    sys.exit(0 if manager.returncode in exit_codes_of_signals else manager.returncode or 1)


if __name__ == "__main__":
    main()
