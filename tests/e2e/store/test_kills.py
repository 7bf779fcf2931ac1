"""Kill, stop and damage the store, and count what it holds afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
import requests

from analytics_store import maintenance
from analytics_store.errors import UnavailableError
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.generated_hits import generate_hits
from tests.support.processes import ROOT, free_port, wait_until
from tests.support.store import hit, ndjson
from tests.support.store_process import HEADERS, environment, running

pytestmark = pytest.mark.e2e

PATH = "/v0/events?name=analytics_events"
KILLS = 5
MOMENTS = (0.2, 0.5, 0.8, 1.2, 1.6)
"""Times from the start of the store to its kill, in seconds; it sorts 770 000 hits in about four."""
SENDERS = 4


class Sender(threading.Thread):
    """Send batches, each until it is accepted, however often the store is killed meanwhile."""

    def __init__(self, port: int, size: int, query: str, *, resend: bool) -> None:
        super().__init__()
        self._url = f"http://127.0.0.1:{port}{PATH}{query}"
        self._size = size
        self._resend = resend
        self.stop = threading.Event()
        self.accepted = 0
        """Events whose batches were accepted."""
        self.unknown = 0
        """Events of batches without a response."""

    def run(self) -> None:
        while not self.stop.is_set():
            changes = {} if self._resend else {"payload": {"event_id": None}}
            body = ndjson([hit(**changes) for _ in range(self._size)])
            while not self._send(body) and self._resend:
                self.stop.wait(0.01)

    def _send(self, body: bytes) -> bool:
        try:
            response = requests.post(self._url, data=body, headers=HEADERS, timeout=30)
        except requests.RequestException:
            self.unknown += self._size
            return False
        assert response.json() == {"successful_rows": self._size, "quarantined_rows": 0}
        self.accepted += self._size
        return True


def stored_hits(port: int) -> int:
    facts = requests.get(f"http://127.0.0.1:{port}/v0/store/info", headers=HEADERS, timeout=30).json()
    hits: int = facts["hits"]
    return hits


@pytest.mark.parametrize(("size", "query"), [(1, ""), (50, "&wait=true")], ids=["one by one", "batches that wait"])
@pytest.mark.parametrize("resend", [True, False], ids=["with event_ids", "without event_ids"])
def test_accepted_rows_are_stored_once_however_often_the_store_is_killed(
    tmp_path: Path, size: int, query: str, resend: bool
) -> None:
    port = free_port()
    senders = [Sender(port, size, query, resend=resend) for _ in range(SENDERS)]
    for number in range(KILLS):
        with running(tmp_path, port) as process:
            enough = sum(sender.accepted for sender in senders) + 20 * size
            for sender in senders if number == 0 else ():
                sender.start()
            wait_until(lambda: sum(sender.accepted for sender in senders) >= enough, 30)  # noqa: B023
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    with running(tmp_path, port):
        for sender in senders:
            sender.stop.set()
        for sender in senders:
            sender.join()
        accepted = sum(sender.accepted for sender in senders)
        # Nothing tells a hit without an event_id from its repeat, so it was sent once, with a response or without.
        most = accepted if resend else accepted + sum(sender.unknown for sender in senders)
        assert accepted <= stored_hits(port) <= most


def test_a_kill_while_rows_are_sorted_neither_loses_nor_repeats_any(tmp_path: Path) -> None:
    store = create_app(Settings(data_dir=tmp_path)).extensions["store"]
    days, sessions = 100, 140_000
    with store.engine.database.cursor() as cursor:
        cursor.execute("CREATE TEMP MACRO site_of(i) AS 'site' || hash(i) % 50")
        cursor.execute("CREATE TEMP MACRO lies_by_site(ts) AS false")
        generate_hits(cursor, store.now() - timedelta(days=days), days, sessions, 0, sessions)

    def content() -> list[tuple[int, ...]]:
        row = "hash(site_uuid, ts, session_no, event_key)"
        query = f"SELECT count(*), count(DISTINCT event_key), sum({row}) FROM hits WHERE site_uuid <> 'site'"
        rows: list[tuple[int, ...]] = store.engine.database.query(query, {}).rows
        assert maintenance.check(store) == {"sessions": 0, "page_days": 0}
        store.close()
        return rows

    def opens() -> bool:
        """Return whether the killed process has released the file."""
        try:
            store.open()
        except UnavailableError:
            return False
        return True

    before = content()
    port = free_port()
    # Their hits are late ones, of a period that is sorted.
    senders = [Sender(port, 20, "", resend=True) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    for moment in MOMENTS:
        with running(tmp_path, port) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        wait_until(opens, 30)
        assert content() == before
    with running(tmp_path, port):
        for sender in senders:
            sender.stop.set()
        for sender in senders:
            sender.join()
        assert stored_hits(port) == before[0][0] + sum(sender.accepted for sender in senders)
    wait_until(opens, 30)
    while maintenance.sort(store) == maintenance.SECONDS_BETWEEN_STEPS:
        pass
    assert content() == before


def test_a_store_that_is_stopped_writes_all_rows_and_leaves_no_journal(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port):
        for _ in range(5):
            requests.post(f"http://127.0.0.1:{port}{PATH}", data=ndjson([hit()]), headers=HEADERS, timeout=30)
    assert list((tmp_path / "journal").iterdir()) == []
    with duckdb.connect(str(tmp_path / "store.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM hits").fetchall() == [(5,)]


def test_commands_reach_the_running_store_and_a_second_process_is_refused(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "analytics_store.app", "store"]
    with running(tmp_path / "data", port):
        url = f"http://127.0.0.1:{port}/v0/events?name=analytics_events"
        requests.post(url, data=ndjson([hit(), hit()]), headers=HEADERS, timeout=30).raise_for_status()
        file = tmp_path / "hits.parquet"
        for arguments, expected in (
            (["info"], "hits: 2"),
            (["export", str(file)], "rows: 2"),
            (["import", str(file)], "new: 0\nalready there: 2\nquarantined: 0\n"),
            (["compact"], "bytes_on_disk"),
            (["info"], "hits: 2"),
        ):
            run = subprocess.run(
                [*command, *arguments], cwd=ROOT, env=environment(tmp_path / "data", port),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert expected in run.stdout, run.stderr
        run = subprocess.run(
            [*command, "info"], cwd=ROOT, env=environment(tmp_path / "data", free_port()),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 1
        assert f"another process has {tmp_path / 'data' / 'store.duckdb'} open" in run.stderr


def test_a_damaged_journal_stops_the_start_until_its_file_is_moved_away(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    app = create_app(Settings(data_dir=tmp_path / "store"))
    for _ in range(3):
        app.test_client().post(PATH, json=hit())
    app.extensions["store"].engine.close()
    (file,) = (tmp_path / "store" / "journal").iterdir()
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "analytics_store/gunicorn.conf.py"]
    settings = environment(tmp_path / "store", port)
    run = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode not in (0, None)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    (reason,) = [record["message"] for record in records if record["event"] == "StoreCannotStart"]
    assert f"journal/{file.name} in STORE_DATA_DIR is damaged at byte 0" in reason
    assert file.read_bytes() == content
    file.rename(tmp_path / "moved-away")
    with running(tmp_path / "store", port):
        assert stored_hits(port) == 0
