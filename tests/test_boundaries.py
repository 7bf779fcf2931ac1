"""Hold the table of imports between packages, and what may happen on import."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import PATIENCE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Package -> our packages that it may import. A name covers everything below it.
ALLOWED = {
    "errors": [],
    "gunicorn_worker": ["errors"],
    "runtime": ["errors"],
    "wsgi": ["runtime.cors", "errors"],
    "settings": ["runtime", "errors"],
    "salts": ["runtime", "errors"],
    "delivery": ["runtime", "errors"],
    "tinybird": ["delivery.target", "runtime.authorization", "errors"],
    "hits": [
        "delivery.target",
        "salts.cache",
        "settings",
        "runtime.cors",
        "runtime.logs",
        "runtime.uuids",
        "wsgi",
        "errors",
    ],
    "counts": ["hits", "runtime", "errors"],
    "health": ["settings", "errors"],
    "statistics": ["tinybird", "runtime", "wsgi", "errors"],
    "dashboard": ["delivery", "tinybird", "runtime", "wsgi", "errors"],
    "automation_sync": [
        "hits",
        "delivery.target",
        "gunicorn_worker.body_limits",
        "runtime.authorization",
        "runtime.uuids",
        "wsgi",
        "errors",
    ],
    "pubsub": ["hits", "delivery", "salts.cache", "runtime", "errors"],
    "setup": ["settings", "runtime", "errors"],
    "app_commands": ["setup", "runtime"],
    "console": ["app_commands"],
    "__main__": ["console"],
    "cli": ["delivery", "salts", "hits", "health", "tinybird", "settings", "errors"],
    "observability": [
        "errors",
        "gunicorn_worker",
        "runtime",
        "wsgi",
        "settings",
        "salts",
        "delivery",
        "tinybird",
        "hits",
        "counts",
        "health",
        "statistics",
        "dashboard",
        "automation_sync",
        "pubsub",
        "setup",
        "app_commands",
        "console",
        "__main__",
        "cli",
    ],
    "wiring": [""],
}
# The store is an app of its own; the service reaches it over HTTP only.
ALLOWED_TO_STORE = ["runtime", "tinybird.jwt", "errors"]
# All that speaks DuckDB, and what it builds on; `wiring` selects it, and `cli` converts Parquet with it.
ENGINE = "duckdb_engine"
ALLOWED_TO_ENGINE = [
    ENGINE,
    "columns",
    "engine",
    "errors",
    "events",
    "file_modes",
    "sessions",
    "settings",
    "timestamps",
]
WITH_ENGINE = {"cli", "wiring"}
ALLOWED_TO_ENTRY = {
    "app.py": ["wiring", "app_commands", "settings", "runtime", "errors"],
    "gunicorn.conf.py": ["settings", "runtime", "salts.circuit_breaker", "gunicorn_worker", "observability", "errors"],
}
WITH_FLASK = {
    "wsgi",
    "health",
    "hits",
    "statistics",
    "dashboard",
    "automation_sync",
    "observability",
    "tinybird",
    "app_commands",
    "console",
    "cli",
    "wiring",
}
PURE = [
    "errors",
    "automation_sync.auth",
    "automation_sync.rows",
    "dashboard.sessions",
    "dashboard.tokens",
    "gunicorn_worker.body_limits",
    "gunicorn_worker.connection_table",
    "gunicorn_worker.request_framing",
    "hits.bots",
    "hits.enrich",
    "hits.outcomes",
    "hits.own_visits",
    "hits.page_hit",
    "hits.referrer",
    "hits.referrer_spam",
    "hits.signed_url",
    "hits.user_agent",
    "hits.visitor",
    "pubsub.message",
    "setup.next_steps",
    "statistics.query",
]
IMPURE = {
    "flask",
    "os",
    "random",
    "requests",
    "secrets",
    "socket",
    "sqlite3",
    "threading",
    "time",
    "urllib3",
    "werkzeug",
}


def modules_of(package: str) -> dict[str, ast.Module]:
    """Parse every file of a package, however deep."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        if path.is_symlink():  # the service's gunicorn.conf.py, which is an entry point
            continue
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


SERVICE = modules_of("traffic_analytics")
STORE = modules_of("analytics_store")


def imports_of(tree: ast.Module, *, for_types: bool) -> set[str]:
    """List what a module imports, anywhere in it; with `for_types` also what only type checkers import."""
    only_for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in only_for_types and not for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
            names.add(ast.literal_eval(node.args[0]))
    return names


def imported_modules(tree: ast.Module, package: str, modules: dict[str, ast.Module]) -> set[str]:
    """List the modules of a package that are imported, as a whole or for a name in them."""
    found = set()
    for name in imports_of(tree, for_types=True):
        if name == package or name.startswith(package + "."):
            module = name.removeprefix(package).removeprefix(".")
            while module and module not in modules:
                module = module.rpartition(".")[0]
            found.add(module)
    return found - {""}  # the package itself holds only its version


def is_below(module: str, allowed: str) -> bool:
    return allowed == "" or module == allowed or module.startswith(allowed + ".")


def test_every_package_is_in_the_table() -> None:
    assert {module.partition(".")[0] for module in SERVICE} - {""} == set(ALLOWED)


def test_the_architecture_page_has_the_same_table() -> None:
    page = (ROOT / "docs" / "develop" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w./]+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    documented = {name: frozenset(re.findall(r"`([^`]+)`", cell)) for name, cell in rows if cell != "all of the above"}
    tables = {**ALLOWED, **ALLOWED_TO_ENTRY, "analytics_store/": ALLOWED_TO_STORE}

    expected = {name: frozenset(allowed) for name, allowed in tables.items() if name not in {"observability", "wiring"}}
    assert {name: documented.get(name) for name in expected} == expected


@pytest.mark.parametrize("module", sorted(SERVICE))
def test_a_package_imports_only_what_the_table_allows(module: str) -> None:
    own = module.partition(".")[0]
    allowed = [own, *ALLOWED.get(own, [])]

    imported = imported_modules(SERVICE[module], "traffic_analytics", SERVICE)

    assert {each for each in imported if not any(is_below(each, name) for name in allowed)} == set()


@pytest.mark.parametrize("module", sorted(STORE))
def test_the_store_imports_only_what_it_shares_with_the_service(module: str) -> None:
    imported = imported_modules(STORE[module], "traffic_analytics", SERVICE)

    assert {each for each in imported if not any(is_below(each, name) for name in ALLOWED_TO_STORE)} == set()


@pytest.mark.parametrize("module", sorted(STORE))
def test_only_the_engine_knows_its_database(module: str) -> None:
    imported = imported_modules(STORE[module], "analytics_store", STORE)
    if is_below(module, ENGINE):
        assert {each for each in imported if not any(is_below(each, name) for name in ALLOWED_TO_ENGINE)} == set()
    else:
        assert module in WITH_ENGINE or not any(is_below(each, ENGINE) for each in imported)
        assert not {name for name in imports_of(STORE[module], for_types=True) if name.startswith("duckdb")}


@pytest.mark.parametrize("file", sorted(ALLOWED_TO_ENTRY))
def test_an_entry_point_imports_only_what_the_table_allows(file: str) -> None:
    imported = imported_modules(ast.parse((ROOT / file).read_text(encoding="utf-8")), "traffic_analytics", SERVICE)

    assert imported
    assert {each for each in imported if not any(is_below(each, name) for name in ALLOWED_TO_ENTRY[file])} == set()


@pytest.mark.parametrize("module", sorted(SERVICE))
def test_the_service_does_not_import_the_store(module: str) -> None:
    assert not imported_modules(SERVICE[module], "analytics_store", STORE)


@pytest.mark.parametrize(
    ("package", "modules"), [("traffic_analytics", SERVICE), ("analytics_store", STORE)], ids=["service", "store"]
)
def test_no_modules_import_each_other_in_a_circle(package: str, modules: dict[str, ast.Module]) -> None:
    edges = {module: imported_modules(tree, package, modules) - {module} for module, tree in modules.items()}

    while leaves := {module for module, imported in edges.items() if not imported & edges.keys()}:
        edges = {module: imported for module, imported in edges.items() if module not in leaves}

    assert edges == {}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_does_io(module: str) -> None:
    imports = imports_of(SERVICE[module], for_types=False)

    assert not {name for name in imports if name.partition(".")[0] in IMPURE}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_reads_no_clock(module: str) -> None:
    attributes = {node.attr for node in ast.walk(SERVICE[module]) if isinstance(node, ast.Attribute)}

    assert not attributes & {"now", "utcnow", "today", "uuid4"}


def test_only_the_edge_imports_flask() -> None:
    with_flask = {
        module
        for module, tree in SERVICE.items()
        if any(name.startswith("flask") for name in imports_of(tree, for_types=False))
    }

    assert {module.partition(".")[0] for module in with_flask} <= WITH_FLASK
    assert {module for module in with_flask if "." in module and not module.startswith("wiring.")} <= {
        "automation_sync.routes",
        "cli.spool",
        "dashboard.routes",
        "hits.routes",
        "observability.routes",
        "statistics.routes",
        "tinybird.stand_in",
    }


@pytest.mark.parametrize("names", [sorted(SERVICE.keys() - {""}), ["app"]], ids=["traffic_analytics", "app"])
def test_importing_a_module_starts_nothing_and_opens_nothing(names: list[str], tmp_path: Path) -> None:
    """With preloading, a thread or connection made on import is dead or shared in every worker."""
    is_app = names == ["app"]
    modules = names if is_app else [f"traffic_analytics.{name}" for name in names]
    program = f"""
import importlib, os, sys, threading
opened = []
def watch(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.fork", "os.mkdir"):
        opened.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(arguments[0])
    if event == "sqlite3.connect" and not {is_app}:
        opened.append(event)
sys.addaudithook(watch)
threading.Thread.start = lambda thread: opened.append(thread)
for module in {modules}:
    importlib.import_module(module)
    assert not [each for each in opened if not {is_app} or isinstance(each, threading.Thread)], (module, opened)
"""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROXY_TARGET": "http://127.0.0.1:9",
        "DATA_DIR": str(tmp_path / "data"),
    }

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stderr
    assert is_app or list(tmp_path.iterdir()) == []
