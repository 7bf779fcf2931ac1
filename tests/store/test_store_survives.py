import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from .conftest import ndjson
from .test_store_events import hit

ROOT = Path(__file__).parents[2]
TOKEN = "an-admin-token-that-only-this-test-knows"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(data_dir: Path, port: int) -> dict[str, str]:
    return os.environ | {  # noqa: TID251 - the processes need the whole environment
        "STORE_DATA_DIR": str(data_dir), "STORE_BIND": f"127.0.0.1:{port}", "STORE_ADMIN_TOKEN": TOKEN,
    }  # fmt: skip


@contextmanager
def running(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the store as an operator does, in a process group of its own."""
    command = [sys.executable, "-m", "gunicorn", "-c", "analytics_store/gunicorn.conf.py", "analytics_store.app:app"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(data_dir, port), start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def pageviews(port: int) -> int:
    query = "site_uuid=site&date_from=2026-11-22&date_to=2026-11-23"
    answer = requests.get(f"http://127.0.0.1:{port}/v0/pipes/api_kpis.json?{query}", headers=HEADERS, timeout=30)
    return sum(row["pageviews"] for row in answer.json()["data"])


@pytest.mark.parametrize("size", [1, 50])
def test_what_was_answered_survives_a_kill_and_what_is_sent_again_counts_once(tmp_path: Path, size: int) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v0/events?name=analytics_events"
    bodies = [[ndjson([hit() for _ in range(size)]) for _ in range(200)] for _ in range(4)]
    answered = [0] * 4
    enough = threading.Event()

    def send(sender: int) -> None:
        session = requests.Session()
        for body in bodies[sender]:
            try:
                answer = session.post(url, data=body, headers=HEADERS, timeout=30)
            except requests.RequestException:
                return
            assert answer.json() == {"successful_rows": size, "quarantined_rows": 0}
            answered[sender] += 1
            if sum(answered) >= 40:
                enough.set()

    with running(tmp_path, port) as process:
        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
        for sender in senders:
            sender.start()
        assert enough.wait(30)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        for sender in senders:
            sender.join()
    assert sum(answered) < 800, "the kill came too late to prove anything"
    with running(tmp_path, port):
        # A request whose answer was lost may have been kept; one that was answered must have been.
        assert sum(answered) * size <= pageviews(port) <= (sum(answered) + 4) * size
        for sender in range(4):
            for body in bodies[sender][: answered[sender] + 1]:
                requests.post(url, data=body, headers=HEADERS, timeout=30).raise_for_status()
        assert pageviews(port) == (sum(answered) + 4) * size


def test_the_shell_reaches_the_store_that_serves_and_a_second_one_is_refused(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "analytics_store.app", "store"]
    with running(tmp_path / "data", port):
        url = f"http://127.0.0.1:{port}/v0/events?name=analytics_events"
        requests.post(url, data=ndjson([hit(), hit()]), headers=HEADERS, timeout=30).raise_for_status()
        file = tmp_path / "hits.parquet"
        for arguments, expected in (
            (["info"], "hits: 2"),
            (["export", str(file)], "rows: 2"),
            (["import", str(file)], "rows: 2"),
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
        assert "another process has it open" in run.stderr
