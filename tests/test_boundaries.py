from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import traffic_analytics
from tests.processes import PATIENCE, ROOT

PACKAGE = Path(traffic_analytics.__file__).parent
PURE = [
    "message",
    "page_hit",
    "signed_url",
    "user_agent",
    "referrer",
    "visitor",
    "enrich",
    "request_end",
    "errors",
    "question",
    "large_bodies",
    "sync_key",
    "sync_rows",
]
IMPURE = {
    "flask",
    "werkzeug",
    "sqlite3",
    "requests",
    "urllib3",
    "os",
    "time",
    "random",
    "secrets",
    "socket",
    "threading",
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports_of(module: str) -> set[str]:
    """List what a module imports, anywhere in it, except for type checkers."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
            names.add(ast.literal_eval(node.args[0]))
    return names


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_touches_the_world(module: str) -> None:
    imports = imports_of(module)

    assert not {name for name in imports if name.partition(".")[0] in IMPURE}
    own = {name.split(".")[1] for name in imports if name.startswith("traffic_analytics.")}
    assert own <= set(PURE), "what a pure module imports is pure"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_asks_no_clock(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert not attributes & {"now", "utcnow", "today", "uuid4"}


def test_only_the_edge_knows_http() -> None:
    with_flask = {module for module in MODULES if any(name.startswith("flask") for name in imports_of(module))}

    assert with_flask <= {"web", "wiring", "commands", "stats_web", "sync_web", "metrics_web"}


@pytest.mark.parametrize("module", [*MODULES, "app"])
def test_importing_a_module_starts_nothing_and_opens_nothing(module: str, tmp_path: Path) -> None:
    """With preloading, a thread or connection made on import is dead or shared in every worker."""
    name = module if module == "app" else f"traffic_analytics.{module}"
    program = f"""
import os, sys, threading
opened = []
def watch(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.fork", "os.mkdir"):
        opened.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(arguments[0])
    if event == "sqlite3.connect" and {module != "app"}:
        opened.append(event)
sys.addaudithook(watch)
threading.Thread.start = lambda thread: opened.append(thread)
import {name}
assert not [each for each in opened if {module != "app"} or isinstance(each, threading.Thread)], opened
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
    assert module == "app" or list(tmp_path.iterdir()) == []
