"""Manage the sites of a running store by its commands, and read one site through the service."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.app import FIREFOX, OTHER_SITE, SITE, page_hit
from tests.support.browsers import TARGET
from tests.support.embedded_store import ADMIN, EmbeddedStore, ask
from tests.support.processes import wait_until
from tests.support.running import running_with_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

pytestmark = pytest.mark.e2e


def send(service: Service, site: str, pathname: str) -> None:
    response = requests.post(
        f"http://127.0.0.1:{service.port}{TARGET}",
        data=json.dumps(page_hit(site_uuid=site, pathname=pathname)),
        headers={"Content-Type": "application/json", "User-Agent": FIREFOX, "x-site-uuid": site},
        timeout=30,
    )
    assert response.status_code == 202


def command(store: EmbeddedStore, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "analytics_store.app", "store", *words],
        cwd=store.log_file.parent,
        env=store.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def sites(store: EmbeddedStore) -> dict[str, int]:
    return {site["site_uuid"]: site["hits"] for site in json.loads(command(store, "sites", "--json"))}


def test_a_client_reads_its_own_site_until_it_is_deleted(tmp_path: Path) -> None:
    with running_with_store(tmp_path) as (service, store):
        send(service, SITE, "/a-page-of-the-site/")
        send(service, OTHER_SITE, "/")
        send(service, OTHER_SITE, "/")
        wait_until(lambda: sites(store) == {SITE: 1, OTHER_SITE: 2})
        token = command(store, "token", SITE).strip()

        def pageviews(site: str) -> int:
            return sum(row["pageviews"] for row in ask(service.port, "api_kpis", token, site_uuid=site).json()["data"])

        assert pageviews(OTHER_SITE) == 1
        assert command(store, "export", "--site", SITE, str(tmp_path / "site.ndjson")) == "rows: 1\n"
        assert "/a-page-of-the-site/" in (tmp_path / "site.ndjson").read_text()

        assert command(store, "delete", SITE, "--yes") == "hits deleted: 1\n"

        assert sites(store) == {OTHER_SITE: 2}
        assert pageviews(SITE) == 0
        files = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
        assert files
        assert [file for file in files if b"a-page-of-the-site" in file.read_bytes()] == []
        send(service, OTHER_SITE, "/")
        wait_until(lambda: sites(store) == {OTHER_SITE: 3})


def test_the_quarantine_of_a_running_store_is_managed_by_commands(tmp_path: Path) -> None:
    with running_with_store(tmp_path) as (_, store):
        requests.post(
            f"{store.url}/v0/events?name=analytics_events",
            data=b"misfit\n{}\n",
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=30,
        )
        lines = command(store, "quarantine", "list").splitlines()
        assert len(lines) == 2

        assert command(store, "quarantine", "retry", lines[0].split()[0]) == "rows: 0\nquarantined: 1\n"
        assert command(store, "quarantine", "purge", "--yes") == "2 rows deleted\n"
        assert command(store, "quarantine", "list") == ""
