"""Commands of the store end with one line that names the file or address, and never with a traceback."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.processes import LocalServer, QuietHandler
from tests.support.store import hit, ndjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def store_command(directory: Path, *arguments: str, bind: str = "unix:/nowhere") -> tuple[int, str]:
    """Run a command in a directory; return its exit code and all output."""
    with chdir(directory):
        app = create_app(Settings.from_env({"STORE_BIND": bind, "DATA_DIR": "data"}))
        done = app.test_cli_runner().invoke(args=["store", *arguments])
        app.extensions["store"].close()
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "hits.ndjson").write_bytes(ndjson([hit(), hit()]))
    return tmp_path


@pytest.mark.parametrize("name", ["hits", "hits.json", "hits.csv", "hits.gz", "hits.parquet.gz", "ndjson"])
def test_a_file_of_an_unknown_format_is_refused(name: str, directory: Path) -> None:
    for command in ("export", "import"):
        if command == "import":
            (directory / name).write_bytes(b"")
        code, output = store_command(directory, command, name)

        assert code == 2
        assert f"{name} must end in .ndjson, .ndjson.gz, .parquet" in output


@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz", ".parquet"])
def test_a_target_that_cannot_be_written_is_named(suffix: str, directory: Path) -> None:
    assert store_command(directory, "import", "hits.ndjson")[0] == 0

    code, output = store_command(directory, "export", f"missing/hits{suffix}")

    assert (code, output) == (1, f"Error: missing/hits{suffix} cannot be written: No such file or directory")


def test_a_full_disk_is_named_and_nothing_stays(directory: Path) -> None:
    assert store_command(directory, "import", "hits.ndjson")[0] == 0

    assert store_command(directory, "export", "/dev/full") == (
        1,
        "Error: /dev/full cannot be written: No space left on device",
    )
    assert sorted(file.name for file in directory.iterdir()) == ["data", "hits.ndjson"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("hits.ndjson.gz", b"no gzip", "Not a gzipped file"),
        ("hits.ndjson.gz", gzip.compress(b"{}\n" * 100)[:-9], "ended before the end-of-stream marker"),
        ("hits.ndjson.gz", gzip.compress(b"{}\n" * 100)[:15] + b"\xff" * 20, "hits.ndjson.gz"),
        ("hits.parquet", b"no parquet", "hits.parquet cannot be read as Parquet"),
    ],
    ids=["no gzip", "cut", "damaged", "no parquet"],
)
def test_a_file_that_cannot_be_imported_is_named(name: str, content: bytes, words: str, directory: Path) -> None:
    (directory / name).write_bytes(content)

    code, output = store_command(directory, "import", name)

    assert code == 1
    assert words in output
    assert name in output


class OtherProgram(QuietHandler):
    """Answer like a web page."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    do_POST = do_GET  # noqa: N815


@contextmanager
def no_http() -> Iterator[str]:
    """Answer as a server of another protocol does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"-ERR unknown command\r\n")
                connection.shutdown(socket.SHUT_WR)
                # What is not read would reset the connection, and the client might not receive the response.
                while connection.recv(1000):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("arguments", [["info"], ["compact"], ["export", "out.ndjson"], ["import", "hits.ndjson"]])
def test_another_program_on_the_port_is_named(arguments: list[str], directory: Path) -> None:
    with LocalServer(OtherProgram) as server, no_http() as other:
        for bind in (server.url.removeprefix("http://"), other):
            code, output = store_command(directory, *arguments, bind=bind)

            assert (code, output) == (
                1,
                f"Error: another program answers at {bind}: stop it, or start the store with another STORE_BIND",
            )
    assert not (directory / "out.ndjson").exists()


class AnotherService(QuietHandler):
    """Answer in JSON, as the service does on its port."""

    status, content = 404, b'{"error":"Not Found"}'

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)


class OtherToken(AnotherService):
    """Answer as a store with another token."""

    status, content = 403, b'{"error":"the token is not valid"}'


@pytest.mark.parametrize(
    ("answers", "advice"),
    [
        (AnotherService, "another program answers at "),
        (OtherToken, "the token is not valid: STORE_ADMIN_TOKEN, or TINYBIRD_ADMIN_TOKEN, must be the one of"),
    ],
)
def test_what_refuses_a_command_is_named(answers: type[QuietHandler], advice: str, directory: Path) -> None:
    with LocalServer(answers) as server:
        code, output = store_command(directory, "info", bind=server.url.removeprefix("http://"))

    assert code == 1
    assert advice in output


@pytest.mark.parametrize("arguments", [["info"], ["sites"], ["compact"], ["export", "out.ndjson"]])
def test_a_command_in_another_directory_makes_no_store(arguments: list[str], directory: Path) -> None:
    code, output = store_command(directory, *arguments)

    assert code == 1
    assert f"there is no store in {directory}/data/store: run the command in the directory that holds .env" in output
    assert [file.name for file in directory.iterdir()] == ["hits.ndjson"]


class BreaksOff(QuietHandler):
    """Announce more than is sent."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", "1000")
        self.send_header("x-store-rows", "9")
        self.end_headers()
        self.wfile.write(b"{}\n")
        self.close_connection = True


def test_a_store_that_ends_within_an_export_is_reported(directory: Path) -> None:
    (directory / "out.ndjson").write_bytes(b"older")
    with LocalServer(BreaksOff) as server:
        code, output = store_command(directory, "export", "out.ndjson", bind=server.url.removeprefix("http://"))

    assert code == 1
    assert "the running store did not finish its response" in output
    assert (directory / "out.ndjson").read_bytes() == b"older"
    assert sorted(file.name for file in directory.iterdir()) == ["hits.ndjson", "out.ndjson"]


def test_an_export_holds_what_was_imported_before(directory: Path) -> None:
    assert store_command(directory, "import", "hits.ndjson") == (0, "new: 2 already there: 0 quarantined: 0")
    assert store_command(directory, "export", "out.ndjson") == (0, "rows: 2")

    rows: list[Any] = [json.loads(line) for line in (directory / "out.ndjson").read_text().splitlines()]
    assert len(rows) == 2
