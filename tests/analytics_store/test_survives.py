import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from tests.support.store import hit, ndjson
from tests.support.store_process import HEADERS, ROOT, environment, free_port, running


def pageviews(port: int) -> int:
    query = "site_uuid=site&date_from=2026-11-22&date_to=2026-11-23"
    response = requests.get(f"http://127.0.0.1:{port}/v0/pipes/api_kpis.json?{query}", headers=HEADERS, timeout=30)
    return sum(row["pageviews"] for row in response.json()["data"])


@pytest.mark.parametrize("size", [1, 50])
def test_committed_rows_survive_a_kill_and_rows_sent_again_count_once(tmp_path: Path, size: int) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v0/events?name=analytics_events"
    bodies = [[ndjson([hit() for _ in range(size)]) for _ in range(200)] for _ in range(4)]
    committed = [0] * 4
    enough = threading.Event()

    def send(sender: int) -> None:
        session = requests.Session()
        for body in bodies[sender]:
            try:
                response = session.post(url, data=body, headers=HEADERS, timeout=30)
            except requests.RequestException:
                return
            assert response.json() == {"successful_rows": size, "quarantined_rows": 0}
            committed[sender] += 1
            if sum(committed) >= 40:
                enough.set()

    with running(tmp_path, port) as process:
        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        for thread in threads:
            thread.join()
    assert sum(committed) < 800, "the kill came too late to prove anything"
    with running(tmp_path, port):
        # The rows of a request whose response was lost may be stored; those of a request with a response must be.
        assert sum(committed) * size <= pageviews(port) <= (sum(committed) + 4) * size
        for sender in range(4):
            for body in bodies[sender][: committed[sender] + 1]:
                requests.post(url, data=body, headers=HEADERS, timeout=30).raise_for_status()
        assert pageviews(port) == (sum(committed) + 4) * size


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
        assert f"another process has {tmp_path / 'data' / 'store.duckdb'} open" in run.stderr
