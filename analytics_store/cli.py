"""Commands for the operator of a store, whether it runs or not.

DuckDB allows one process to open the file, so the commands send requests to the running store, with the admin token. If
none runs, they open the file themselves.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click
import msgspec
import requests
from flask import current_app
from flask.cli import AppGroup
from urllib3.exceptions import ProtocolError

from analytics_store import file_modes
from analytics_store.duckdb_engine import parquet
from analytics_store.endpoints import ENDPOINTS
from analytics_store.errors import RequestError
from analytics_store.events import DATA_SOURCES, PAGE_HITS, ROW_BYTES
from analytics_store.settings import Settings
from analytics_store.store import Store
from traffic_analytics.errors import AnalyticsError
from traffic_analytics.runtime.env_values import site_uuids
from traffic_analytics.tinybird.jwt import sign_claims

BODY_BYTES = 8_000_000
"""Size from which a body of an import is sent, in bytes: the store's limit is 10 MB."""
CHUNK_BYTES = 1_000_000
"""Bytes of a file that an import reads at once."""
PARTIAL = "partial-"
"""Prefix of an export's file until it is complete."""
SECONDS = 3_600
"""Longest wait for a response, in seconds; the compaction of a large store takes minutes."""

SUFFIXES = (".ndjson", ".ndjson.gz", ".parquet")
CONTENT_TYPES = {"application/json", "application/x-ndjson"}
"""Content types of the store's responses to commands."""
IMPORT = "/v0/store/import"
"""The one request of a command that makes a store where there is none."""
WRONG_KEY = ": STORE_ADMIN_TOKEN, or TINYBIRD_ADMIN_TOKEN, must be the one of the running store"
ELSEWHERE = "run the command in the directory that holds .env, or set STORE_DATA_DIR"
"""Advice where a command finds no store; a new one would be empty."""


class StoreCommands(AppGroup):
    """Commands that end with one line where a file, the store or the network fails them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn each failure that an operator can meet into its reason."""
        try:
            return super().invoke(ctx)
        except AnalyticsError as error:
            raise click.ClickException(str(error)) from error
        except (requests.RequestException, msgspec.DecodeError) as error:
            raise click.ClickException(
                f"the running store did not finish its response ({type(error).__name__})"
            ) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror}") from error


store = StoreCommands(
    "store", help="Maintain the embedded store, whether it runs or not.", callback=file_modes.restrict_new_files
)


def read_site(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Return a site's UUID in lower case."""
    if text is None:
        return None
    try:
        (site,) = site_uuids(text)
    except ValueError:
        raise click.BadParameter("must be the UUID of a site, as `analytics-store sites` lists it") from None
    return site


site_argument = click.argument("site", callback=read_site)
data_source = click.option("--name", default=PAGE_HITS, type=click.Choice(DATA_SOURCES), help="The data source.")


class StoreResponse(NamedTuple):
    """A response of the store; the body is a stream."""

    status: int
    rows: int
    body: Iterator[bytes]

    def json(self) -> Any:
        """Read a short body, or end the command with the error that it names."""
        content = msgspec.json.decode(b"".join(self.body))
        if self.status >= 400:
            advice = WRONG_KEY if self.status == HTTPStatus.FORBIDDEN else ""
            raise click.ClickException(content.get("error", str(self.status)) + advice)
        return content


def request_store(method: str, path: str, body: bytes | None = None) -> StoreResponse:
    """Send a request to the running store; if there is none, open the file in this process."""
    settings: Settings = current_app.extensions["store"].settings
    headers = {"Authorization": f"Bearer {settings.admin_token}"} if settings.admin_token else {}
    if not settings.open_to_all and not settings.admin_token:
        raise click.ClickException("STORE_ADMIN_TOKEN, or TINYBIRD_ADMIN_TOKEN, must be set")
    if settings.url is not None:
        try:
            response = requests.request(
                method, settings.url + path, data=body, headers=headers, stream=True, timeout=SECONDS
            )
        except requests.ConnectionError as error:
            _require_no_answer(error, settings)
        else:
            content_type = response.headers.get("Content-Type", "").partition(";")[0]
            if content_type not in CONTENT_TYPES or response.status_code == HTTPStatus.NOT_FOUND:
                response.close()
                raise click.ClickException(_another_program(settings))
            chunks = response.iter_content(chunk_size=1_048_576)
            return StoreResponse(response.status_code, int(response.headers.get("x-store-rows", 0)), chunks)
    if not path.startswith(IMPORT) and not settings.data_dir.exists():
        raise click.ClickException(f"there is no store in {settings.data_dir.absolute()}: {ELSEWHERE}")
    local = current_app.test_client().open(path, method=method, data=body, headers=headers)
    return StoreResponse(local.status_code, int(local.headers.get("x-store-rows", 0)), local.iter_encoded())


def _require_no_answer(error: requests.ConnectionError, settings: Settings) -> None:
    """Return if no program listens on the address; then the file can be opened here."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, ProtocolError):
        if isinstance(cause.args[-1], RemoteDisconnected | ConnectionError):
            raise error
        raise click.ClickException(_another_program(settings)) from error


def _another_program(settings: Settings) -> str:
    return f"another program answers at {settings.bind}: stop it, or start the store with another STORE_BIND"


def _check_suffix(_context: click.Context, _parameter: click.Parameter, file: Path) -> Path:
    """Refuse a name whose format is unknown; a pipe or a device has no suffix and gets NDJSON."""
    if not file.name.endswith(SUFFIXES) and (file.is_file() or not file.exists()):
        raise click.BadParameter(f"{file} must end in {', '.join(SUFFIXES)}")
    return file


@store.command()
def info() -> None:
    """Show how many rows the store holds, and its size on disk."""
    for name, value in request_store("GET", "/v0/store/info").json().items():
        click.echo(f"{name}: {value}")


@store.command()
def check() -> None:
    """Compute what is derived from the hits anew; the status is 1 if anything differs."""
    differences = request_store("GET", "/v0/store/check").json()
    for name, count in differences.items():
        click.echo(f"{name}: {count} differ")
    if any(differences.values()):
        raise click.ClickException("the store differs from its hits; please report it")


@store.command()
def compact() -> None:
    """Rewrite the file in the order of site and time, and free unused space."""
    facts = request_store("POST", "/v0/store/compact").json()
    click.echo(f"bytes_on_disk: {facts['bytes_on_disk']}")


@store.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def sites(as_json: bool) -> None:
    """List the sites: UUID, host, hits, sessions, first and last hit, and an estimate of the bytes on disk."""
    found = request_store("GET", "/v0/store/sites").json()["sites"]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    for site in found:
        times = f"{site['first_hit'] or '-'}  {site['last_hit'] or '-'}"
        counts = f"{site['hits']} hits  {site['sessions']} sessions  {times}  {site['bytes_estimated']} B"
        click.echo(f"{site['site_uuid'] or '-'}  {site['host'] or '-'}  {counts}")


@store.command("delete")
@site_argument
@click.confirmation_option(prompt="Delete all hits of this site, and rewrite the file?")
def delete_site(site: str) -> None:
    """Delete all rows of SITE, and rewrite the file without them; this needs disk space for a second file."""
    click.echo(f"hits deleted: {request_store('DELETE', f'/v0/store/sites/{site}').json()['hits_deleted']}")


@store.command("token")
@site_argument
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 36_500), help="Days until it expires.")
def sign_token(site: str, days: int) -> None:
    """Print a token that reads the statistics of SITE, and of no other."""
    parts: Store = current_app.extensions["store"]
    if not parts.settings.admin_token:
        raise click.ClickException("STORE_ADMIN_TOKEN must be set: it signs the token")
    scopes = [{"type": "PIPES:READ", "resource": name, "fixed_params": {"site_uuid": site}} for name in ENDPOINTS]
    claims = {"name": f"site-{site}", "exp": int(parts.clock()) + days * 86_400, "scopes": scopes}
    click.echo(sign_claims(claims, parts.settings.admin_token))


@store.group()
def quarantine() -> None:
    """Show and manage rows that do not fit their data source."""


@quarantine.command("list")
@click.option("--rows", is_flag=True, help="The rows, too.")
def list_quarantined(rows: bool) -> None:
    """List rows: number, time of arrival, data source, size, reason."""
    for each in request_store("GET", "/v0/store/quarantine").json()["rows"]:
        size = len(each["row"].encode())
        click.echo(f"{each['id']}  {each['arrived']}  {each['name']}  {size} B  {each['reason']}")
        if rows:
            click.echo(f"    {each['row']}")


@quarantine.command("retry")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All rows in quarantine.")
def retry_quarantined(ids: tuple[str, ...], everything: bool) -> None:
    """Store rows that fit by now, after an update of the store: those with the given numbers, or --all."""
    if bool(ids) == everything:
        raise click.UsageError("give the numbers of rows, or --all")
    counts = request_store("POST", "/v0/store/quarantine/retry?" + urlencode([("id", each) for each in ids])).json()
    if ids and not counts["stored"] + counts["refused"]:
        raise click.ClickException("no row has this number; `analytics-store quarantine list` shows them")
    click.echo(f"rows: {counts['stored']}\nquarantined: {counts['refused']}")


@quarantine.command("purge")
@click.confirmation_option(prompt="Delete all rows in quarantine?")
def purge_quarantined() -> None:
    """Delete the rows in quarantine."""
    click.echo(f"{request_store('DELETE', '/v0/store/quarantine').json()['deleted']} rows deleted")


@store.command("export")
@data_source
@click.option("--site", callback=read_site, help="The UUID of a site: its rows only.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), callback=_check_suffix)
def export_rows(name: str, site: str | None, file: Path) -> None:
    """Write a data source to FILE: .ndjson, .ndjson.gz or .parquet. An export that fails leaves an older FILE."""
    response = request_store("GET", f"/v0/store/export?name={name}" + (f"&site={site}" if site else ""))
    if response.status >= 400:
        response.json()
    # A new file has the mode 0600, whatever the older one had. A pipe or a device cannot be replaced.
    replaceable = file.is_file() or not file.exists()
    target = file.resolve().with_name(f"{PARTIAL}{file.name}") if replaceable else file
    try:
        if file.suffix == ".parquet":
            written = parquet.write(target, response.body, current_app.extensions["store"].settings.memory_mb)
        else:
            written = _write_lines(target, response.body)
        if written != response.rows:
            raise click.ClickException(f"the export broke off: {written} of {response.rows} rows")
        if replaceable:
            target.replace(file.resolve())
    except requests.RequestException:  # an OSError of the network
        raise
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
    finally:
        if replaceable:
            target.unlink(missing_ok=True)
    click.echo(f"rows: {written}")


@store.command("import")
@data_source
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), callback=_check_suffix)
def import_rows(name: str, file: Path) -> None:
    """Add the rows of FILE (.ndjson, .ndjson.gz or .parquet); hits that the store already has count once."""
    total: Counter[str] = Counter()
    memory_mb = current_app.extensions["store"].settings.memory_mb
    chunks = parquet.read(file, memory_mb) if file.suffix == ".parquet" else _read_chunks(file)
    for body in _bodies(chunks):
        total.update(request_store("POST", f"{IMPORT}?name={name}", body).json())
    click.echo(f"new: {total['new']}\nalready there: {total['known']}\nquarantined: {total['quarantined']}")
    if total["quarantined"] and not total["new"] + total["known"]:
        raise click.ClickException(
            "no row of the file fits the data source; `analytics-store quarantine list` has the reasons"
        )


def _bodies(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join chunks of NDJSON to bodies that end with a line."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= BODY_BYTES:
            body = b"".join(parts)
            end = body.rfind(b"\n") + 1
            # A row over the limit is quarantined, so its end is not needed.
            rest = body[end:] if end else body[: ROW_BYTES + 1]
            parts, size = [rest], len(rest)
            if end:
                yield body[:end]
    yield b"".join(parts)


def _read_chunks(file: Path) -> Iterator[bytes]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise RequestError(f"{file} cannot be unpacked: {error}") from error


def _write_lines(file: Path, chunks: Iterable[bytes]) -> int:
    rows = 0
    with gzip.open(file, "wb", compresslevel=6) if file.suffix == ".gz" else file.open("wb") as stream:
        for chunk in chunks:
            rows += chunk.count(b"\n")
            stream.write(chunk)
    return rows
