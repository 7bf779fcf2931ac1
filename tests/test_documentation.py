"""What the documentation says of settings, commands and files is true."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analytics_store.settings import Settings as StoreSettings
from traffic_analytics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def default(each: Field[Any]) -> str:
    """Write a default as one would set it; what cannot be set (nothing, no number yet) means that there is none."""
    if each.default is None:
        return ""
    written = str(each.default).lower() if isinstance(each.default, bool) else str(each.default)
    try:
        each.metadata["read"](written)
    except ValueError:
        return ""
    return written


SERVICE = fields(Settings)
STORE = [each for each in fields(StoreSettings) if each.metadata["name"].startswith("STORE_")]
"""The store's own; what else it reads, both read."""


def settings_table(settings: Iterable[Field[Any]]) -> list[str]:
    return ["| name | default | meaning |", "|---|---|---|"] + [
        f"| `{each.metadata['name']}` | {f'`{default(each)}`' if default(each) else ''} | {each.metadata['meaning']} |"
        for each in settings
    ]


def example_settings() -> list[str]:
    lines = []
    for each in [*SERVICE, *STORE]:
        meaning = textwrap.wrap(each.metadata["meaning"].replace("`", ""), 118, break_on_hyphens=False)
        lines += ["", *(f"# {line}" for line in meaning), f"#{each.metadata['name']}={default(each)}"]
    return lines


def paste(what: str, lines: list[str]) -> str:
    return f"{what} differs from Settings; it should read:\n\n" + "\n".join(lines)


def test_the_tables_of_the_configuration_page_are_what_settings_say() -> None:
    table = [line for line in text("docs/operate/configuration.md").splitlines() if line.startswith("|")]
    expected = [*settings_table(SERVICE), *settings_table(STORE)]

    if table != expected:
        pytest.fail(paste("The tables of docs/operate/configuration.md", expected), pytrace=False)


def test_the_example_environment_is_what_settings_say() -> None:
    lines = text(".env.example").splitlines()

    if lines[lines.index("") :] != example_settings():
        pytest.fail(paste(".env.example, from its first empty line,", example_settings()), pytrace=False)


def test_every_setting_says_what_it_means_in_one_line_of_a_table() -> None:
    for each in [*SERVICE, *STORE]:
        assert re.fullmatch(r"[^|\n]+\.", each.metadata["meaning"]), each.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_make_command_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text("Makefile"), re.MULTILINE))
    words = page.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", words) + re.findall(r"^```sh\n(.*?)^```", words, re.MULTILINE | re.DOTALL)
    named = {match[1] for line in code for match in re.finditer(r"\bmake ([a-z0-9]+)\b", line)}

    assert named <= targets


def test_phony_targets_and_their_recipes_are_the_same() -> None:
    makefile = text("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))


def started_by(name: str) -> list[list[str]]:
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
    settings = Settings.from_env({"PROXY_TARGET": "http://tinybird.example", **WORKER})
    worker = re.search(r"^worker: env (\S+) (.*)$", text("Procfile"), re.MULTILINE)

    assert settings.worker_mode
    assert worker is not None
    assert worker[1] == "WORKER_MODE=true"
    assert f"web: {worker[2]}" in text("Procfile").splitlines()


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, each) for name in ("Procfile", "Procfile.dev", "Dockerfile", "compose.yaml") for each in started_by(name)],
)
def test_what_starts_service_and_store_is_accepted_by_gunicorn(name: str, command: list[str], tmp_path: Path) -> None:
    environment = {"PROXY_TARGET": "http://tinybird.example", "DATA_DIR": str(tmp_path), "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--check-config"],
        cwd=PROJECT,
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


def test_the_image_copies_what_exists_and_what_its_context_lets_through() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", text("Dockerfile"), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    let_through = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}

    assert copied
    assert set(copied) == let_through
    assert [source for source in copied if not (PROJECT / source).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith(("#", "mailto:"))]

    assert [link for link in local if not (page.parent / link).exists()] == []
