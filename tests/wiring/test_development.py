"""Complete the environment of `make run`, and leave given variables as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from development import __main__ as development
from traffic_analytics.errors import ConfigurationError

STORE = "http://127.0.0.1:7181"


def complete(data_dir: Path, **given: str) -> dict[str, str]:
    return development.complete({"DATA_DIR": str(data_dir), **given})


def test_without_anything_given_the_service_finds_the_store(tmp_path: Path) -> None:
    filled = complete(tmp_path)

    assert (filled["PROXY_TARGET"], filled["STATS_TARGET"]) == (STORE, STORE)
    assert filled["TINYBIRD_TRACKER_TOKEN"] == filled["STORE_TRACKER_TOKEN"]
    assert filled["TINYBIRD_ADMIN_TOKEN"] == filled["STORE_ADMIN_TOKEN"]
    assert complete(tmp_path) == filled


@pytest.mark.parametrize(
    ("given", "is_on"),
    [
        ({}, True),
        ({"DASHBOARD": "false"}, False),
        ({"LISTEN_HOST": "0.0.0.0"}, False),
        ({"LISTEN_HOST": "0.0.0.0", "DASHBOARD_KEY": "k" * 32}, True),
        ({"PROXY_TARGET": "https://tinybird.example/v0/events", "TINYBIRD_TRACKER_TOKEN": "p.token"}, False),
    ],
)
def test_the_dashboard_is_on_where_the_store_answers_and_access_is_limited(
    tmp_path: Path, given: dict[str, str], is_on: bool
) -> None:
    assert complete(tmp_path, **given).get("DASHBOARD", "false") == str(is_on).lower()


def test_given_variables_are_left_as_they_are(tmp_path: Path) -> None:
    given = {"LOG_FORMAT": "json", "WEB_CONCURRENCY": "7", "STORE_BIND": "127.0.0.1:9", "STATS_CACHE_SECONDS": "30"}
    filled = complete(tmp_path, **given)

    assert given.items() <= filled.items()
    assert filled["PROXY_TARGET"] == "http://127.0.0.1:9"


def test_tinybirds_own_tokens_become_the_stores(tmp_path: Path) -> None:
    filled = complete(tmp_path, TINYBIRD_ADMIN_TOKEN="p.admin", TINYBIRD_TRACKER_TOKEN="p.tracker")

    assert (filled["STORE_ADMIN_TOKEN"], filled["STORE_TRACKER_TOKEN"]) == ("p.admin", "p.tracker")
    assert (filled["TINYBIRD_ADMIN_TOKEN"], filled["TINYBIRD_TRACKER_TOKEN"]) == ("p.admin", "p.tracker")


def test_no_token_of_the_store_is_sent_elsewhere(tmp_path: Path) -> None:
    filled = complete(tmp_path, PROXY_TARGET="https://tinybird.example/v0/events", REQUEST_TOKENS="true")

    assert not {"TINYBIRD_TRACKER_TOKEN", "TINYBIRD_ADMIN_TOKEN", "STATS_TARGET"} & set(filled)


def test_a_store_without_a_port_is_no_default_target(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PROXY_TARGET: must be set"):
        complete(tmp_path, STORE_BIND=f"unix:{tmp_path}/socket")


def test_a_damaged_token_file_is_reported_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "tokens.env"
    file.write_text("STORE_ADMIN_TOKEN=x\n")

    with pytest.raises(SystemExit, match="damaged"):
        complete(tmp_path)
    assert file.read_text() == "STORE_ADMIN_TOKEN=x\n"
