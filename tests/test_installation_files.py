"""Hold Makefile, Procfile, Dockerfile and compose.yaml against each other and the settings."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from traffic_analytics.settings import Settings


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_phony_targets_and_their_recipes_are_the_same() -> None:
    makefile = text("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize(("target", "installs_development"), [("run", False), ("test", True), ("check", True)])
def test_make_run_installs_only_what_running_needs(target: str, installs_development: bool, tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", f"VENV={tmp_path}/venv", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert f"-r {tmp_path}/venv/runs.txt" in done.stdout
    assert ("-r requirements-dev.txt" in done.stdout) is installs_development


def start_commands(name: str) -> list[list[str]]:
    if name == "Dockerfile":
        return [json.loads(text(name).rpartition("\nCMD ")[2])]
    if name == "compose.yaml":
        return [json.loads(command) for command in re.findall(r"^    command: (.*)$", text(name), re.MULTILINE)]
    commands = [line.partition(": ")[2].removeprefix("exec ") for line in text(name).splitlines()]
    return [shlex.split(each.removeprefix("env WORKER_MODE=true ")) for each in commands]


WORKER = {
    "WORKER_MODE": "true",
    "TINYBIRD_TRACKER_TOKEN": "p.token",
    "GOOGLE_CLOUD_PROJECT": "the-project",
    "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": "hits",
}


def test_a_worker_is_started_by_the_same_command() -> None:
    settings = Settings.from_env(
        {"PROXY_TARGET": "http://tinybird.example", "TINYBIRD_TRACKER_TOKEN": "p.token", **WORKER}
    )
    worker = re.search(r"^worker: env (\S+) (.*)$", text("Procfile"), re.MULTILINE)

    assert settings.worker_mode
    assert worker is not None
    assert worker[1] == "WORKER_MODE=true"
    assert f"web: {worker[2]}" in text("Procfile").splitlines()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (name, each)
        for name in ("Procfile", "Procfile.dev", "Dockerfile", "compose.yaml")
        for each in start_commands(name)
    ],
)
def test_gunicorn_accepts_the_commands_that_start_service_and_store(
    name: str, command: list[str], tmp_path: Path
) -> None:
    environment = {
        "PROXY_TARGET": "http://tinybird.example",
        "TINYBIRD_TRACKER_TOKEN": "p.token",
        "DATA_DIR": str(tmp_path),
        "PATH": os.defpath,
    }
    done = subprocess.run(
        [sys.executable, "-m", *command, "--check-config"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_compose_builds_the_image_as_it_is_by_default() -> None:
    image = re.findall(r"^ARG REQUIREMENTS=(.*)$", text("Dockerfile"), re.MULTILINE)
    compose = re.findall(r"\$\{REQUIREMENTS:-(.*)\}", text("compose.yaml"))

    assert len(image) == 1
    assert image == compose


def test_every_service_of_compose_runs_read_only_and_without_privileges() -> None:
    shared, _, services = text("compose.yaml").partition("\nservices:\n")
    services = services.partition("\nvolumes:\n")[0]
    blocks = re.split(r"^  (?=[a-z])", services, flags=re.MULTILINE)[1:]

    assert len(blocks) == 2
    for line in (
        "  read_only: true",
        "  cap_drop: [ALL]",
        '  security_opt: ["no-new-privileges:true"]',
        "    - /tmp:size=64m,mode=1777,noexec,nosuid,nodev",
    ):
        assert re.search(rf"^{re.escape(line)}( #.*)?$", shared, re.MULTILINE), line
    for block in blocks:
        assert "    <<: *image\n" in block
        assert not re.search("read_only|cap_add|security_opt|privileged|tmpfs|user:", block)


def test_the_image_copies_existing_files_that_dockerignore_includes() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", text("Dockerfile"), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    included = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}

    assert copied
    assert set(copied) == included
    assert [source for source in copied if not (ROOT / source).exists()] == []
