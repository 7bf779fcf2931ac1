"""An operator looks after the store from a shell while it serves: DuckDB lets only one process have the file.

So the commands ask the running store over HTTP with the admin token. If none runs, they serve themselves.
"""

import gzip
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import requests
from flask import Flask, current_app
from flask.cli import AppGroup

from analytics_store import parquet
from analytics_store.events import DATA_SOURCES, PAGE_HITS
from analytics_store.settings import Settings

LINES_AT_ONCE = 5_000
# Compaction of a big store takes minutes.
SECONDS = 3_600

store = AppGroup("store", help="Look after the embedded store, whether it runs or not.")
data_source = click.option("--name", default=PAGE_HITS, type=click.Choice(DATA_SOURCES), help="The data source.")


class Reply(NamedTuple):
    """What the store answered; the body comes in pieces."""

    status: int
    rows: int
    body: Iterator[bytes]

    def json(self) -> Any:
        """Read a short body, or stop with the error that it names."""
        content = msgspec.json.decode(b"".join(self.body))
        if self.status >= 400:
            raise click.ClickException(content.get("error", str(self.status)))
        return content


def ask(method: str, path: str, body: bytes | None = None) -> Reply:
    """Ask the running store; if nobody listens there, open the file here."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's own idiom
    settings: Settings = app.extensions["store"].settings
    headers = {"Authorization": f"Bearer {settings.admin_token}"} if settings.admin_token else {}
    if not settings.open_to_all and not settings.admin_token:
        raise click.ClickException("STORE_ADMIN_TOKEN must be set")
    address = settings.url
    if address is not None:
        try:
            answer = requests.request(method, address + path, data=body, headers=headers, stream=True, timeout=SECONDS)
        except requests.ConnectionError:
            pass
        else:
            chunks = answer.iter_content(chunk_size=1_048_576)
            return Reply(answer.status_code, int(answer.headers.get("x-store-rows", 0)), chunks)
    local = app.test_client().open(path, method=method, data=body, headers=headers)
    return Reply(local.status_code, int(local.headers.get("x-store-rows", 0)), local.iter_encoded())


@store.command()
def info() -> None:
    """Show what the store holds and what it takes on disk."""
    for name, value in ask("GET", "/v0/store/info").json().items():
        click.echo(f"{name}: {value}")


@store.command()
def compact() -> None:
    """Put hits in the order of time and give unused room back."""
    held = ask("POST", "/v0/store/compact").json()
    click.echo(f"bytes_on_disk: {held['bytes_on_disk']}")


@store.command("export")
@data_source
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
def export_rows(name: str, file: Path) -> None:
    """Write a data source to FILE: .ndjson, .ndjson.gz or .parquet."""
    reply = ask("GET", f"/v0/store/export?name={name}")
    if reply.status >= 400:
        reply.json()
    write = parquet.write if file.suffix == ".parquet" else _write_lines
    written = write(file, reply.body)
    if written != reply.rows:
        raise click.ClickException(f"the export broke off: {written} of {reply.rows} rows")
    click.echo(f"rows: {written}")


@store.command("import")
@data_source
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_rows(name: str, file: Path) -> None:
    """Add the rows of FILE (.ndjson, .ndjson.gz or .parquet); hits that are there already count once."""
    fit = unfit = 0
    lines = parquet.read(file) if file.suffix == ".parquet" else _read_lines(file)
    for body in _bodies(lines):
        counts = ask("POST", f"/v0/events?name={name}&wait=true", body).json()
        fit += counts["successful_rows"]
        unfit += counts["quarantined_rows"]
    click.echo(f"rows: {fit}\nquarantined: {unfit}")


def _bodies(lines: Iterable[bytes]) -> Iterator[bytes]:
    remaining = iter(lines)
    while chunk := list(islice(remaining, LINES_AT_ONCE)):
        body = b"".join(chunk)
        # A body over the server's limit is halved; 5 000 ordinary events are well below.
        yield from _halves(chunk) if len(body) > 8_000_000 else [body]


def _halves(lines: list[bytes]) -> Iterator[bytes]:
    middle = len(lines) // 2
    if sum(map(len, lines)) <= 8_000_000 or not middle:
        yield b"".join(lines)
    else:
        yield from _halves(lines[:middle])
        yield from _halves(lines[middle:])


def _read_lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        for line in stream:
            if line.strip():
                yield line.rstrip(b"\n") + b"\n"


def _write_lines(file: Path, chunks: Iterable[bytes]) -> int:
    rows = 0
    with gzip.open(file, "wb", compresslevel=6) if file.suffix == ".gz" else file.open("wb") as stream:
        for chunk in chunks:
            rows += chunk.count(b"\n")
            stream.write(chunk)
    return rows
