"""The WSGI entry: the environment is read here, once."""

import os
import sys

from analytics_store.errors import SettingsError
from analytics_store.settings import Settings
from analytics_store.wiring import create_app

try:
    settings = Settings.from_env(os.environ)  # noqa: TID251 - this is the edge
except SettingsError as error:
    for mistake in error.mistakes:
        sys.stderr.write(f"{mistake}\n")
    raise SystemExit(2) from None

app = create_app(settings)
