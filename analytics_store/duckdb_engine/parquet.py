"""Convert between NDJSON and Parquet files with the columns of Tinybird's data sources; an object becomes JSON text.

One thread works at a time and rows are written in small groups, so that memory does not grow with their number.
"""

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from analytics_store.errors import RequestError

ROWS_AT_ONCE = 1_000
ROW_BYTES = 4 * 2**20
"""Longest row of an export, in bytes; DuckDB's buffers are several times as long."""
GROUP_BYTES = "8MB"
"""Size from which the writer begins another row group: it holds one in memory."""
# All are texts; the payload's is JSON, which an import accepts too.
COLUMNS = ("timestamp", "session_id", "action", "version", "site_uuid", "id", "updated_at", "inserted_at", "payload")
TIMES = {"timestamp", "updated_at", "inserted_at"}
NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
TIMES_WITHOUT_ZONE = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
NESTED = ("STRUCT", "MAP", "UNION")


def write(file: Path, chunks: Iterable[bytes], memory_mb: int) -> int:
    """Write NDJSON as Parquet; return the number of rows. The gzipped NDJSON needs space beside the file until then."""
    with _explain(file, "written"), tempfile.TemporaryDirectory(dir=file.parent) as directory:
        lines = Path(directory) / "rows.ndjson.gz"
        with gzip.open(lines, "wb", compresslevel=1) as stream:
            for chunk in chunks:
                stream.write(chunk)
        with _connect(memory_mb, directory) as connection:
            kinds = {name: "JSON" if name == "payload" else "VARCHAR" for name in COLUMNS}
            relation = connection.read_json(
                str(lines),
                format="newline_delimited",
                compression="gzip",
                columns=kinds,
                maximum_object_size=ROW_BYTES,
            )
            counts = relation.aggregate(", ".join(f"count({name})" for name in COLUMNS)).fetchall()[0]
            present = [name for name, values in zip(COLUMNS, counts, strict=True) if values]
            relation.project(", ".join(present) or "payload").write_parquet(
                str(file), compression="zstd", row_group_size_bytes=GROUP_BYTES
            )
            count = connection.from_parquet(str(file)).aggregate("count(*)").fetchall()
    rows: int = count[0][0]
    return rows


def read(file: Path, memory_mb: int) -> Iterator[bytes]:
    """Read the rows of a Parquet file as NDJSON: an export of a store, of Tinybird, or of ClickHouse."""
    with (
        _explain(file, "read"),
        tempfile.TemporaryDirectory() as directory,
        _connect(memory_mb, directory) as connection,
    ):
        relation = connection.from_parquet(str(file))
        kinds = {
            name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True) if name in COLUMNS
        }
        relation.project(", ".join(f"{_text(*column)} AS {column[0]}" for column in kinds.items())).create_view(
            "selected"
        )
        result = connection.execute("SELECT * FROM selected")
        while rows := result.fetchmany(ROWS_AT_ONCE):
            for row in rows:
                yield _to_line(list(kinds), row)


def _connect(memory_mb: int, directory: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={
            "memory_limit": f"{memory_mb}MiB",
            "temp_directory": directory,
            # A limit of bytes for row groups needs this; one thread keeps the order all the same.
            "preserve_insertion_order": False,
            "threads": 1,
        }
    )


def _text(name: str, kind: str) -> str:
    """Return the expression of a column's text. ClickHouse writes texts as bytes, and times as numbers."""
    if kind == "BLOB":
        return name
    if name in TIMES and (kind in NUMBERS or kind == "DOUBLE" or kind.startswith("DECIMAL")):
        # The store's years, 1980 to 2299, are different numbers in each unit.
        microseconds = f"""CASE
            WHEN {name} < 100_000_000_000 THEN {name} * 1_000_000::HUGEINT
            WHEN {name} < 100_000_000_000_000 THEN {name} * 1_000::HUGEINT
            WHEN {name} < 100_000_000_000_000_000 THEN {name}
            ELSE {name} / 1_000 END"""
        return f"TRY(make_timestamp(({microseconds})::BIGINT))::VARCHAR"
    if name in TIMES and kind in TIMES_WITHOUT_ZONE:
        return f"{name}::TIMESTAMP::VARCHAR"
    if name in TIMES and kind == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamp(epoch_us({name}))::VARCHAR"
    if kind.startswith(NESTED):
        return f"to_json({name})::VARCHAR"
    return f"{name}::VARCHAR"


def _to_line(names: Sequence[str], row: tuple[Any, ...]) -> bytes:
    values = (value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in row)
    event = dict(zip(names, values, strict=True))
    try:
        return msgspec.json.encode(event) + b"\n"
    except UnicodeEncodeError:
        # Bytes that are no UTF-8: as they are, for the quarantine.
        return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


@contextmanager
def _explain(file: Path, done: str) -> Iterator[None]:
    """Turn DuckDB's errors into one that names the file; their messages may quote rows."""
    try:
        yield
    except duckdb.Error as error:
        raise RequestError(f"{file} cannot be {done} as Parquet ({type(error).__name__})") from error
