"""`traffic-analytics setup` writes an installation once, and changes nothing that exists."""

from __future__ import annotations

import getpass
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from analytics_store.settings import Settings as StoreSettings
from tests.support.processes import ROOT
from traffic_analytics.runtime.env_file import read_env_file
from traffic_analytics.settings import Settings
from traffic_analytics.setup.command import setup

if TYPE_CHECKING:
    from collections.abc import Mapping

TINYBIRD_TOKENS = {"TINYBIRD_TRACKER_TOKEN": "p.tracker", "TINYBIRD_ADMIN_TOKEN": "p.admin"}
WORKSPACE = "--workspace=11111111-2222-4333-8444-555555555555"
BLOG = "--blog=https://blog.example"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, as if the package were installed into an environment in it."""
    commands = tmp_path / "venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "traffic-analytics").touch()
    monkeypatch.setattr(sys, "executable", str(commands / "python"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "here"


def run(
    directory: Path, *options: str, answers: str | None = None, environment: Mapping[str, str] | None = None
) -> Result:
    arguments = [f"--directory={directory}", f"--user={getpass.getuser()}", *options]
    if answers is None:
        arguments.append("--yes")
    return CliRunner().invoke(setup, arguments, input=answers, env=environment or {})


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


BLOCKS = {"traffic-analytics.nginx.conf", "traffic-analytics.caddy"}
UNITS = {"traffic-analytics.service", "traffic-analytics-store.service"}
SERVICE = {"PROXY_TARGET", "STATS_TARGET", "TINYBIRD_TRACKER_TOKEN", "TINYBIRD_ADMIN_TOKEN", "TRUST_PROXY"}


@pytest.mark.parametrize(
    ("target", "runs", "files", "variables"),
    [
        ("store", "systemd", BLOCKS | UNITS, SERVICE | {"PORT", "LISTEN_HOST", "STORE_BIND", "DATA_DIR"}),
        ("store", "procfile", BLOCKS | {"Procfile"}, SERVICE | {"STORE_BIND"}),
        ("store", "docker", BLOCKS, SERVICE - {"PROXY_TARGET", "STATS_TARGET"} | {"PORT"}),
        ("store", "ghost-docker", {"compose.override.yml"}, {*TINYBIRD_TOKENS, "TINYBIRD_WORKSPACE_ID"}),
        ("tinybird", "systemd", BLOCKS | {"traffic-analytics.service"}, SERVICE | {"PORT", "LISTEN_HOST", "DATA_DIR"}),
        ("tinybird", "procfile", BLOCKS | {"Procfile"}, SERVICE),
        ("tinybird", "docker", BLOCKS, SERVICE | {"PORT"}),
        ("tinybird", "ghost-docker", {"compose.override.yml"}, {*TINYBIRD_TOKENS, "TINYBIRD_WORKSPACE_ID"}),
    ],
)
def test_each_kind_of_installation_gets_its_files_and_variables(
    target: str, runs: str, files: set[str], variables: set[str], directory: Path
) -> None:
    options = [BLOG, f"--target={target}", f"--runs={runs}", *([WORKSPACE] if target == "tinybird" else [])]
    done = run(directory, *options, environment=TINYBIRD_TOKENS if target == "tinybird" else {})

    assert done.exit_code == 0, done.output
    assert set(content(directory)) == {".env", *files}
    written = read_env_file(directory / ".env")[0]
    assert set(written) == variables
    assert (directory / ".env").stat().st_mode & 0o777 == 0o600
    if "PROXY_TARGET" in written:
        assert Settings.from_env(written).stats_target == written["STATS_TARGET"]
    if target == "store" and "PROXY_TARGET" in written:
        assert StoreSettings.from_env(written).url == written["PROXY_TARGET"]
    texts = b"".join(content(directory).values()).decode()
    assert "@{" not in texts


def test_a_second_setup_needs_no_options_and_changes_nothing(directory: Path) -> None:
    assert run(directory, BLOG, "--target=store", "--runs=systemd", "--port=3001").exit_code == 0
    before = content(directory)

    done = run(directory)

    assert done.exit_code == 0, done.output
    assert content(directory) == before
    assert len(re.findall("^unchanged  ", done.output, re.MULTILINE)) == len(before)
    assert "3001" in before["traffic-analytics.nginx.conf"].decode()


def test_secrets_are_new_each_time_and_printed_only_if_asked_for(directory: Path, tmp_path: Path) -> None:
    done = run(directory, BLOG, "--target=store", "--runs=systemd")
    other = tmp_path / "other"
    run(other, BLOG, "--target=store", "--runs=systemd")
    tokens = [read_env_file(each / ".env")[0][name] for each in (directory, other) for name in TINYBIRD_TOKENS]
    shown = run(directory, "--show-secrets")

    assert len(set(tokens)) == 4
    assert all(len(token) == 64 for token in tokens)
    assert not any(token in done.output for token in tokens)
    admin = read_env_file(directory / ".env")[0]["TINYBIRD_ADMIN_TOKEN"]
    section = json.loads("{" + shown.output.partition("other sections:")[2].partition("or as Ghost's")[0] + "}")
    assert section == {
        "tinybird": {
            "workspaceId": "self-hosted",
            "adminToken": admin,
            "tracker": {"endpoint": "https://blog.example/.ghost/analytics/api/v1/page_hit"},
            "stats": {"endpoint": "https://blog.example/.ghost/analytics"},
        }
    }
    assert f"\ntinybird__adminToken={admin}\n" in shown.output
    assert "\ntinybird__tracker__endpoint=https://blog.example/.ghost/analytics/api/v1/page_hit\n" in shown.output


DOCKER = ("--target=store", "--runs=ghost-docker")


def test_an_existing_environment_is_completed_only_with_permission(directory: Path) -> None:
    directory.mkdir()
    file = directory / ".env"
    file.write_text("DOMAIN=blog.example\nTINYBIRD_ADMIN_TOKEN=mine")  # ends without a line break

    refused = run(directory, *DOCKER)
    assert refused.exit_code == 1
    assert "lacks TINYBIRD_WORKSPACE_ID, TINYBIRD_TRACKER_TOKEN: add them with --add" in refused.output
    declined = run(directory, BLOG, *DOCKER, answers="n\n")
    assert declined.exit_code == 1
    assert content(directory) == {".env": b"DOMAIN=blog.example\nTINYBIRD_ADMIN_TOKEN=mine"}

    added = run(directory, *DOCKER, "--add")
    assert added.exit_code == 0, added.output
    assert "completed" in added.output
    assert file.read_text().startswith("DOMAIN=blog.example\nTINYBIRD_ADMIN_TOKEN=mine\n")
    written = read_env_file(file)[0]
    assert written["TINYBIRD_ADMIN_TOKEN"] == "mine"
    assert set(written) == {"DOMAIN", "TINYBIRD_WORKSPACE_ID", *TINYBIRD_TOKENS}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/operate/with-ghost-docker.md",
        "docs/operate/with-ghost-cli.md",
        "docs/operate/heroku-style.md",
    ],
)
def test_the_commands_of_the_documentation_run_one_after_the_other(page: str, directory: Path) -> None:
    directory.mkdir()
    if page.endswith("docker.md"):
        (directory / ".env").write_text("DOMAIN=blog.example\n")
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", "")
    commands = re.findall(r"^ *[^#`\n]*\btraffic[-_]analytics setup\b(.*)$", text, re.MULTILINE)

    assert commands
    for options in commands:
        chosen = re.sub(r"--directory \S+", "", options).split()
        answers = None if "--yes" in chosen else "blog.example\nstore\nsystemd\n\n" if not chosen else "\n"
        done = run(directory, *chosen, answers=answers, environment=TINYBIRD_TOKENS)
        assert done.exit_code == 0, done.output


def test_in_a_container_the_user_needs_no_name(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr(getpass, "getuser", fail)
    done = CliRunner().invoke(setup, [f"--directory={directory}", BLOG, *DOCKER, "--yes"])

    assert done.exit_code == 0, done.output


def test_what_differs_is_named_and_left(directory: Path) -> None:
    run(directory, BLOG, "--target=store", "--runs=systemd")
    block = directory / "traffic-analytics.nginx.conf"
    block.write_text("# mine\n")
    (directory / ".env").chmod(0o644)

    done = run(directory, "--proxies=2")

    assert f"left       {block}: it differs from what setup writes" in done.output
    assert ".env: TRUST_PROXY is not 2" in done.output
    assert ".env: other users can read it: chmod 600" in done.output
    assert block.read_text() == "# mine\n"
    assert read_env_file(directory / ".env")[0]["TRUST_PROXY"] == "1"


def test_without_options_it_asks(directory: Path) -> None:
    answers = "blog.example\nstore\nsystemd\n\n"
    done = run(directory, answers=answers)

    assert done.exit_code == 0, done.output
    assert read_env_file(directory / ".env")[0]["DATA_DIR"] == str(directory / "data")
    assert (directory / "data").stat().st_mode & 0o777 == 0o700


def test_tokens_of_tinybird_are_typed_unseen(directory: Path) -> None:
    answers = "https://blog.example\ntinybird\nprocfile\n\nthe-workspace\np.tracker\np.admin\n"
    done = run(directory, answers=answers)

    assert done.exit_code == 0, done.output
    assert TINYBIRD_TOKENS.items() <= read_env_file(directory / ".env")[0].items()
    assert "p.tracker" not in done.output
    assert "p.admin" not in done.output
    assert '"workspaceId": "the-workspace"' in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--blog must be given"),
        ((BLOG, "--target=store"), "--runs must be given"),
        (("--blog=ftp://blog.example", *DOCKER), "--blog: must be the blog's address"),
        (("--blog=https://blog.example/<script>", "--blog=a b", *DOCKER), "--blog: must be the blog's address"),
        ((BLOG, *DOCKER, "--data-dir=/srv/x"), "--data-dir: with Docker, data lives in volumes"),
        ((BLOG, "--target=store", "--runs=systemd", "--data-dir=/srv/my data"), "--data-dir: must be a path of"),
        ((BLOG, "--target=store", "--runs=systemd", "--user=nobody-of-this-name"), "there is no user nobody-of"),
        ((BLOG, "--target=tinybird", "--runs=procfile", WORKSPACE), "TINYBIRD_TRACKER_TOKEN must be set"),
        ((BLOG, "--target=tinybird", "--runs=procfile"), "--workspace must be given"),
    ],
)
def test_a_wrong_or_missing_answer_is_named_and_nothing_is_written(
    options: tuple[str, ...], message: str, directory: Path
) -> None:
    done = run(directory, *options)

    assert done.exit_code in (1, 2)
    assert message in done.output
    assert not directory.exists()


def test_systemd_needs_the_installed_package(directory: Path) -> None:
    (Path(sys.executable).parent / "traffic-analytics").unlink()

    done = run(directory, BLOG, "--target=store", "--runs=systemd")

    assert "pip install --no-deps ." in done.output
    assert not directory.exists()


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (b"NAME=\xff\n", "is not UTF-8 text"),
        (b'A=1\nTINYBIRD_TRACKER_TOKEN="p.secret\nPORT=3001\n', "line 2 cannot be read"),
        (b"DOMAIN=blog.example\nMY-PORT=3001\n", "line 2 must begin with the name of a variable"),
    ],
)
def test_an_environment_with_a_mistake_is_named_and_left(text: bytes, mistake: str, directory: Path) -> None:
    directory.mkdir()
    (directory / ".env").write_bytes(text)

    done = run(directory, BLOG, *DOCKER, "--add")

    assert done.exit_code == 1
    assert f"{directory}/.env: {mistake}" in done.output
    assert "p.secret" not in done.output
    assert content(directory) == {".env": text}


def test_a_directory_that_cannot_be_written_is_named(directory: Path) -> None:
    directory.write_text("a file")

    done = run(directory / "below", BLOG, "--target=store", "--runs=procfile")

    assert done.exit_code == 1
    assert f"Error: {directory}" in done.output


def test_ghost_docker_with_the_store_must_not_start_tinybirds_commands(directory: Path) -> None:
    directory.mkdir()
    (directory / ".env").write_text("DOMAIN=blog.example\nCOMPOSE_PROFILES=activitypub,analytics\n")

    done = run(directory, *DOCKER, "--add")

    assert "Remove analytics from COMPOSE_PROFILES" in done.output
