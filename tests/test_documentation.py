"""Hold the documentation against settings, commands, files and words."""

from __future__ import annotations

import ast
import re
import subprocess
import textwrap
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from analytics_store.cli import store
from analytics_store.settings import Settings as StoreSettings
from traffic_analytics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
GLOSSARY = "docs/reference/glossary.md"
RECORDS = sorted(PROJECT.glob("docs/develop/decisions/*.md"))
MENTION_PAGES = {"", ".example", ".md", ".py", ".sql", ".toml", ".yaml", ".yml"}


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def default(each: Field[Any]) -> str:
    """Return a default as an operator would set it, or "" if no text stands for it."""
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
"""Settings of the store that the service does not read."""


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


def difference(place: str, lines: list[str]) -> str:
    return f"{place} differs from Settings; expected:\n\n" + "\n".join(lines)


def test_the_tables_of_the_configuration_page_match_the_settings() -> None:
    page = text("docs/operate/configuration.md")
    tables = re.findall(r"^\| name \| default \| meaning \|\n(?:\|.*\n)+", page, re.MULTILINE)
    table = "".join(tables).splitlines()
    expected = [*settings_table(SERVICE), *settings_table(STORE)]

    if table != expected:
        pytest.fail(difference("The tables of docs/operate/configuration.md", expected), pytrace=False)


def test_the_example_environment_matches_the_settings() -> None:
    lines = text(".env.example").splitlines()

    if lines[lines.index("") :] != example_settings():
        pytest.fail(difference(".env.example, from its first empty line,", example_settings()), pytrace=False)


@pytest.mark.parametrize(
    ("page", "package"),
    [("docs/operate/configuration.md", "traffic_analytics"), ("docs/reference/store.md", "analytics_store")],
)
def test_a_page_lists_log_events_that_the_code_logs(page: str, package: str) -> None:
    rows = re.findall(r"^\| (`[A-Z][a-z]\w+`.*?) \|", text(page), re.MULTILINE)
    listed = {event for row in rows for event in re.findall(r"`(\w+)`", row)}
    files = [*(PROJECT / package).rglob("*.py"), *PROJECT.glob("traffic_analytics/runtime/*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in [*files, PROJECT / "gunicorn.conf.py"])

    assert listed
    assert {event for event in listed if f'"{event}"' not in code} == set()


def test_the_meaning_of_every_setting_is_one_line_and_one_sentence() -> None:
    for each in [*SERVICE, *STORE]:
        assert re.fullmatch(r"[^|\n]+\.", each.metadata["meaning"]), each.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_make_command_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text("Makefile"), re.MULTILINE))
    content = page.read_text(encoding="utf-8")
    code = re.findall(r"`([^`\n]+)`", content) + re.findall(r"^```sh\n(.*?)^```", content, re.MULTILINE | re.DOTALL)
    named = {match[1] for line in code for match in re.finditer(r"\bmake ([a-z0-9]+)\b", line)}

    assert named <= targets


def test_every_command_is_called_by_script_or_package_and_exists(start: Any) -> None:
    dashboard = {"DASHBOARD": "true", "STATS_TARGET": "http://127.0.0.1:9", "TINYBIRD_ADMIN_TOKEN": "t"}
    service = start(**dashboard, LISTEN_HOST="127.0.0.1").app.cli
    known = {("traffic", name) for name in service.list_commands(click.Context(service))}
    known |= {("analytics", name) for name in (*store.commands, "serve")}
    content = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    fences = re.findall(r"^ *```\w*\n(.*?)^ *```", content, re.MULTILINE | re.DOTALL)
    lines = [*re.findall(r"`([^`\n]+)`", content), *(line.strip() for each in fences for line in each.splitlines())]
    called = r"(?:^(?:\S*/)?|\bpython -m )(traffic|analytics)[-_](?:analytics|store) ([a-z]+)"

    named = {(each[1], each[2]) for line in lines for each in re.finditer(called, line)}
    by_flask = {line for line in lines if re.search(r"\bflask --app ", line)}

    assert named
    assert named - known == set()
    assert by_flask == {"flask --app app", "flask --app analytics_store.app store"}


NGINX = "server {{\n    listen {port};\n    server_name blog.example;\n{line}    root /var/www/ghost;\n}}\n"


def test_the_steps_for_nginx_add_one_line_however_often_they_are_run(tmp_path: Path) -> None:
    """The files are those of ghost-cli, without and with TLS."""
    command = re.search(r"^ *sudo (sed (?:.*\\\n)*.*)$", text("docs/operate/with-ghost-cli.md"), re.MULTILINE)
    assert command is not None
    for name, port in (("blog.example.conf", 80), ("blog.example-ssl.conf", 443)):
        (tmp_path / name).write_text(NGINX.format(port=port, line=""))

    for _ in range(2):
        here = command[1].replace("/etc/nginx/sites-available/", "")
        subprocess.run(["sh", "-c", here], cwd=tmp_path, check=True, timeout=60)

    line = "    include /etc/nginx/snippets/traffic-analytics.conf;\n"
    for name, port in (("blog.example.conf", 80), ("blog.example-ssl.conf", 443)):
        assert (tmp_path / name).read_text() == NGINX.format(port=port, line=line)


def headings_of(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them from its headings."""
    without_code = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def local_links(page: Path) -> list[tuple[str, str]]:
    """Return the file and the anchor of each link that stays in the project."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    parts = [link.partition("#") for link in links if "://" not in link and not link.startswith("mailto:")]
    return [(path, anchor) for path, _, anchor in parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_local_link_names_a_file_and_a_heading_that_exist(page: Path) -> None:
    dead = [path for path, _ in local_links(page) if not (page.parent / path).exists()]
    dead += [
        f"{path}#{anchor}"
        for path, anchor in local_links(page)
        if anchor and anchor not in headings_of(page.parent / path if path else page)
    ]

    assert dead == []


def test_the_index_links_every_page_of_the_documentation() -> None:
    """The architecture page has the index of the decision records."""
    docs = PROJECT / "docs"
    linked = {
        (index.parent / path).resolve()
        for index in (docs / "README.md", docs / "develop" / "architecture.md")
        for path, _ in local_links(index)
    }

    assert {page for page in PAGES if page.is_relative_to(docs)} - linked == {docs / "README.md"}


def test_the_architecture_page_has_the_table_of_imports_that_is_enforced() -> None:
    tree = ast.parse(text("tests/test_boundaries.py"))
    allowed: dict[str, list[str]] = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALLOWED"
    )
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*?) \|$", text("docs/develop/architecture.md"), re.MULTILINE)
    written: dict[str, list[str]] = {}
    for package, imports in rows:
        written[package] = list(written) if imports == "all of the above" else re.findall(r"`([\w.]+)`", imports)
    allowed["wiring"] = [package for package in allowed if package != "wiring"]

    assert {package: sorted(imports) for package, imports in written.items()} == {
        package: sorted(imports) for package, imports in allowed.items()
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_record_has_its_number_status_and_date(record: Path) -> None:
    head = record.read_text(encoding="utf-8").partition("## ")[0]

    assert re.match(rf"# {int(record.name[:4])}\. \S", head)
    assert re.search(r"^- Status: (Accepted|Proposed|Superseded)\b", head, re.MULTILINE)
    assert re.search(r"^- Date: \d{4}-\d\d-\d\d\b", head, re.MULTILINE)


def test_every_page_that_a_file_mentions_exists() -> None:
    folders = ("analytics_store", "development", "tests", "traffic_analytics", ".github")
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*")]
    files += PROJECT.iterdir()

    dead = {
        (str(path.relative_to(PROJECT)), page)
        for path in files
        if path.is_file() and path.suffix in MENTION_PAGES and not path.name.startswith(".coverage")
        for page in re.findall(r"\bdocs/[\w./-]*\w", path.read_text(encoding="utf-8"))
        if not (PROJECT / page).exists()
    }

    assert dead == set()


def banned_words() -> list[str]:
    """Return the words of the glossary's column "not", and the indefinite persons that hide the actor."""
    columns = re.findall(r"^\| [^|]+ \| ((?:`[^`]+`(?:, )?)+) \| [^|]+ \|$", text(GLOSSARY), re.MULTILINE)
    return [word for column in columns for word in re.findall(r"`([^`]+)`", column)] + [
        "everybody",
        "nobody",
        "somebody",
        "whoever",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_the_documentation_uses_the_words_of_the_glossary(page: Path) -> None:
    if page == PROJECT / GLOSSARY:
        return
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = banned_words()
    used = {word for word in words if re.search(rf"\b{re.escape(word)}\b", prose, re.IGNORECASE)}

    assert len(words) > 10
    assert used == set()
