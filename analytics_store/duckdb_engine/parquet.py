"""Convert between NDJSON and Parquet files with the columns of Tinybird's data sources; an object becomes JSON text."""

import gzip
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from analytics_store.errors import RequestError

ROWS_AT_ONCE = 1_000
# All are texts; the payload's is JSON, which an import accepts too.
COLUMNS = ("timestamp", "session_id", "action", "version", "site_uuid", "id", "updated_at", "inserted_at", "payload")


def write(file: Path, chunks: Iterable[bytes]) -> int:
    """Write NDJSON as Parquet; return the number of rows. The gzipped NDJSON needs space beside the file until then."""
    with _explain(file, "written"), tempfile.TemporaryDirectory(dir=file.parent) as directory:
        lines = Path(directory) / "rows.ndjson.gz"
        with gzip.open(lines, "wb", compresslevel=1) as stream:
            for chunk in chunks:
                stream.write(chunk)
        with duckdb.connect(config={"memory_limit": "512MiB", "temp_directory": directory}) as connection:
            kinds = {name: "JSON" if name == "payload" else "VARCHAR" for name in COLUMNS}
            relation = connection.read_json(
                str(lines),
                format="newline_delimited",
                compression="gzip",
                columns=kinds,
                maximum_object_size=100_000_000,
            )
            present = [name for name in COLUMNS if relation.aggregate(f"count({name})").fetchall()[0][0]]
            relation.project(", ".join(present) or "payload").write_parquet(str(file), compression="zstd")
            count = connection.from_parquet(str(file)).aggregate("count(*)").fetchall()
    rows: int = count[0][0]
    return rows


def read(file: Path) -> Iterator[bytes]:
    """Read the rows of a Parquet file as NDJSON: an export of a store, or Tinybird's of the same data source."""
    with _explain(file, "read"), duckdb.connect(config={"memory_limit": "512MiB"}) as connection:
        relation = connection.from_parquet(str(file))
        names = [name for name in relation.columns if name in COLUMNS]
        relation.project(", ".join(f"{name}::VARCHAR AS {name}" for name in names)).create_view("selected")
        result = connection.execute("SELECT * FROM selected")
        while rows := result.fetchmany(ROWS_AT_ONCE):
            for row in rows:
                yield msgspec.json.encode(dict(zip(names, row, strict=True))) + b"\n"


@contextmanager
def _explain(file: Path, done: str) -> Iterator[None]:
    """Turn DuckDB's errors into one that names the file; their messages may quote rows."""
    try:
        yield
    except duckdb.Error as error:
        raise RequestError(f"{file} cannot be {done} as Parquet ({type(error).__name__})") from error
