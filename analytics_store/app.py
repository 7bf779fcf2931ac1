"""The WSGI entry: the environment is read here, once."""

import sys

from analytics_store.errors import SettingsError
from analytics_store.settings import Settings, read_environment
from analytics_store.wiring import create_app

try:
    settings = Settings.from_env(read_environment())
except SettingsError as error:
    for mistake in error.mistakes:
        sys.stderr.write(f"{mistake}\n")
    raise SystemExit(2) from None

app = create_app(settings)
