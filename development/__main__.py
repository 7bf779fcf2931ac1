"""What `make run` starts: the processes of Procfile.dev, in an environment in which they find each other.

Only what neither the environment nor `.env` says is filled in, so `PORT=8080 make run` and a `.env` with a real
PROXY_TARGET do what they say. The store's tokens are made once and kept in DATA_DIR.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from dotenv import dotenv_values
from honcho.environ import parse_procfile
from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer

from analytics_store.errors import SettingsError
from analytics_store.settings import STAND_INS
from analytics_store.settings import Settings as StoreSettings
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.settings import Settings, read_environment

DEFAULTS = {
    "LOG_EVENTS": "true",
    "LOG_FORMAT": "pretty",
    "DATA_DIR": "data/development",
    "LISTEN_HOST": "127.0.0.1",
    "WEB_CONCURRENCY": "2",  # more than one, as in production, and few lines in the terminal
    "STATS_CACHE_SECONDS": "1",  # who tries things out wants to see them counted
}
TOKENS = ("STORE_ADMIN_TOKEN", "STORE_TRACKER_TOKEN", "STORE_STATS_TOKEN")


def complete(given: dict[str, str]) -> dict[str, str]:
    """Fill in what is not given. Raises ConfigurationError and SettingsError with the mistakes in what is."""
    environment = DEFAULTS | {name: value for name, value in given.items() if value.strip()}
    for name, stand_in in STAND_INS.items():
        if stand_in in environment:
            environment.setdefault(name, environment[stand_in])
    environment = kept_tokens(Path(environment["DATA_DIR"]) / "tokens.env") | environment
    store = StoreSettings.from_env(environment)
    if store.url is not None and "PROXY_TARGET" not in environment:
        environment["PROXY_TARGET"] = store.url
        environment.setdefault("TINYBIRD_TRACKER_TOKEN", environment["STORE_TRACKER_TOKEN"])
        environment.setdefault("STATS_TARGET", store.url)
    if store.url is not None and environment.get("STATS_TARGET") == store.url:
        environment.setdefault("TINYBIRD_ADMIN_TOKEN", environment["STORE_ADMIN_TOKEN"])
    Settings.from_env(environment)
    return environment


def kept_tokens(file: Path) -> dict[str, str]:
    """Read the tokens that an earlier start made, or make them; nobody else may read the file."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={secrets.token_urlsafe(32)}\n" for name in TOKENS]
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.writelines(lines)
    tokens = {name: value for name, value in dotenv_values(file).items() if value}
    if set(tokens) != set(TOKENS):
        sys.exit(f"{file} is damaged: it should set {', '.join(TOKENS)}. Without it new ones are made.")
    return tokens


def main() -> None:
    """Start everything; it ends together, on Ctrl-C or when a part of it dies."""
    try:
        environment = complete(read_environment())
    except ConfigurationError as error:
        sys.exit(f"The service cannot start, the settings hold mistakes:\n{error}")
    except SettingsError as error:
        sys.exit("The store cannot start, the settings hold mistakes:\n" + "\n".join(error.mistakes))
    beside_python = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([beside_python, environment.get("PATH", os.defpath)])
    # Lines without a prefix, or nothing of it could be pasted.
    manager = Manager(Printer(sys.stdout, prefix=False))
    for name, command in parse_procfile(Path("Procfile.dev").read_text(encoding="utf-8")).processes.items():
        manager.add_process(name, command, env=environment)
    manager.loop()
    asked_to_end = {signal["rc"] for signal in SIGNALS.values()}
    sys.exit(0 if manager.returncode in asked_to_end else manager.returncode or 1)


if __name__ == "__main__":
    main()
