import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from analytics_store import errors, web
from analytics_store.settings import Settings
from tests.support.processes import COVERAGE
from traffic_analytics.errors import AnalyticsError, ConfigurationError, DamagedFile
from traffic_analytics.settings import Settings as ServiceSettings


def test_nothing_set_means_loopback_and_the_data_directory() -> None:
    settings = Settings.from_env({})
    assert (settings.bind, settings.data_dir, settings.memory_mb) == ("127.0.0.1:7181", Path("data/store"), 512)
    assert settings.open_to_all
    assert Settings.from_env({"DATA_DIR": "/d"}).data_dir == Path("/d/store")
    assert Settings.from_env({"DATA_DIR": "/d", "STORE_DATA_DIR": "/s"}).data_dir == Path("/s")


@pytest.mark.parametrize("bind", ["0.0.0.0:7181", "[::]:7181", "192.168.1.1:80", "store:7181", "127.0.0.1.example:80"])
def test_without_tokens_only_loopback_may_be_bound(bind: str) -> None:
    with pytest.raises(ConfigurationError, match="STORE_ADMIN_TOKEN"):
        Settings.from_env({"STORE_BIND": bind})
    assert Settings.from_env({"STORE_BIND": bind, "STORE_ADMIN_TOKEN": "secret"}).bind == bind


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "localhost:7181", "[::1]:7181", "127.1.2.3:7181", "unix:/run/store"])
def test_loopback_needs_no_token(bind: str) -> None:
    assert Settings.from_env({"STORE_BIND": bind}).bind == bind


def test_every_mistake_is_reported_at_once_without_any_token() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(
            {
                "STORE_BIND": "nowhere",
                "STORE_MEMORY_MB": "lots",
                "STORE_RETENTION_DAYS": "0",
                "STORE_THREADS": "-1",
                "LOG_LEVEL": "loud",
                "STORE_ADMIN_TOKEN": "a secret",
            }
        )
    names = ("STORE_BIND", "STORE_MEMORY_MB", "STORE_RETENTION_DAYS", "STORE_THREADS", "LOG_LEVEL", "STORE_ADMIN_TOKEN")
    assert sorted(mistake.partition(":")[0] for mistake in caught.value.mistakes) == sorted(names)
    assert str(caught.value).splitlines() == [f"  - {mistake}" for mistake in caught.value.mistakes]
    assert "but is 'lots'" in str(caught.value)
    assert "a secret" not in str(caught.value)


def test_one_secret_cannot_be_two_tokens() -> None:
    with pytest.raises(ConfigurationError, match="differ"):
        Settings.from_env({"STORE_ADMIN_TOKEN": "same", "STORE_STATS_TOKEN": "same"})


def test_tokens_of_the_service_count_unless_the_store_has_its_own() -> None:
    given = {"TINYBIRD_ADMIN_TOKEN": "admin", "TINYBIRD_TRACKER_TOKEN": "tracker"}
    settings = Settings.from_env(given | {"STORE_BIND": "0.0.0.0:7181"})
    assert (settings.admin_token, settings.tracker_token, settings.open_to_all) == ("admin", "tracker", False)
    own = Settings.from_env(given | {"STORE_ADMIN_TOKEN": "a", "STORE_TRACKER_TOKEN": "t"})
    assert (own.admin_token, own.tracker_token) == ("a", "t")


def test_variables_of_logs_are_those_of_the_service() -> None:
    service = {each.metadata["name"]: each for each in fields(ServiceSettings)}
    shared = [each for each in fields(Settings) if not each.metadata["name"].startswith("STORE_")]
    assert [each.metadata["name"] for each in shared] == ["LOG_LEVEL", "LOG_FORMAT"]
    for each in shared:
        assert each.default == service[each.metadata["name"]].default


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:7181", "http://127.0.0.1:7181"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("unix:/run/store", None),
    ],
)
def test_the_url_is_the_one_that_clients_on_this_machine_use(bind: str, url: str | None) -> None:
    assert Settings(bind=bind).url == url


def test_settings_never_show_a_token() -> None:
    shown = repr(Settings(admin_token="admin-secret", tracker_token="tracker-secret", stats_token="stats-secret"))
    assert "secret" not in shown


@pytest.mark.parametrize("start", ["-c import analytics_store.app", "-m gunicorn -c analytics_store/gunicorn.conf.py"])
def test_mistakes_stop_the_start_in_the_form_of_the_service(tmp_path: Path, start: str) -> None:
    option, _, rest = start.partition(" ")
    command = [sys.executable, option, *([rest] if option == "-c" else rest.split())]
    run = subprocess.run(
        command, env=COVERAGE | {"STORE_MEMORY_MB": "lots", "STORE_BIND": "x", "DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.splitlines()[-3:] == [
        "The analytics store cannot start, the settings hold mistakes:",
        "  - STORE_BIND: must be HOST:PORT or unix:PATH, but is 'x'",
        "  - STORE_MEMORY_MB: must be a whole number from 128 to 1048576, but is 'lots'",
    ]
    assert "Traceback" not in run.stderr


def test_an_import_of_the_app_opens_no_file_and_starts_no_thread(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import analytics_store.app, threading; assert threading.active_count() == 1"]
    environment = {"DATA_DIR": str(tmp_path / "data")}
    subprocess.run(command, env=environment, check=True, cwd=Path(__file__).parents[2])
    assert list(tmp_path.iterdir()) == []


def test_every_error_has_a_status() -> None:
    every: set[type[AnalyticsError]] = {DamagedFile}
    parents: list[type[AnalyticsError]] = [errors.StoreError]
    while parents:
        every.update(subclasses := parents.pop().__subclasses__())
        parents += subclasses
    assert every == set(web.STATUSES)
