"""An operator looks after the store from a shell while it serves: DuckDB lets only one process have the file."""

import click

store = click.Group("store", help="Look after the embedded store.")
