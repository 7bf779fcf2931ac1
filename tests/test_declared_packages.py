"""Compare the imports of third-party packages with the declarations in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISTRIBUTIONS = metadata.packages_distributions()
OWN = {"analytics_store", "app", "development", "traffic_analytics"}
# Files -> the extras, or groups of development, whose packages they may import beside those of every installation.
EXTRAS = {
    "analytics_store": {"store"},
    "development": {"dev"},
    "traffic_analytics/gunicorn_worker/request_head.py": {"fast"},
    "traffic_analytics/observability": {"gcp", "metrics", "otel"},
    "traffic_analytics/pubsub": {"gcp"},
    "traffic_analytics/salts/firestore.py": {"gcp"},
    "traffic_analytics/salts/redis.py": {"redis"},
    "traffic_analytics/statistics": {"stats"},
    "traffic_analytics/tinybird/jwt.py": {"stats"},
    "traffic_analytics/wiring": {"otel"},
}
FILES = sorted(
    {
        *(path for package in OWN - {"app"} for path in (ROOT / package).rglob("*.py")),
        ROOT / "app.py",
        ROOT / "gunicorn.conf.py",
    }
)


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_packages() -> dict[str, set[str]]:
    """Read the declared packages by extra or group; those of every installation are under the empty name."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    requirements = {"": project["dependencies"], **project["optional-dependencies"], **content["dependency-groups"]}
    return {
        extra: {normalized(re.split(r"[^A-Za-z0-9._-]", each)[0]) for each in lines if isinstance(each, str)}
        for extra, lines in requirements.items()
    }


def imported_names(path: Path) -> Iterator[list[str]]:
    """List the imports of a file: for each, the dotted names that may be the module, the longest first."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ([alias.name] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([f"{node.module}.{alias.name}", str(node.module)] for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
            yield [ast.literal_eval(node.args[0])]


def package_of(names: list[str]) -> str:
    """Find the installed package that holds a module; several packages share a namespace such as `google`."""
    module = names[0].partition(".")[0]
    # A package that needs a compiler may be missing; it has the name of its module.
    candidates = DISTRIBUTIONS.get(module, [module])
    if len(set(candidates)) == 1:
        return normalized(candidates[0])
    for name in names:
        stem = name.replace(".", "/")
        for candidate in candidates:
            files = {str(file) for file in metadata.files(candidate) or ()}
            if files & {f"{stem}.py", f"{stem}/__init__.py"}:
                return normalized(candidate)
    raise AssertionError(f"{names[0]} belongs to no installed package")


PACKAGE_OF: dict[str, str] = {}


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for names in imported_names(path):
        top = names[0].partition(".")[0]
        if top not in OWN and top not in sys.stdlib_module_names:
            if names[0] not in PACKAGE_OF:
                PACKAGE_OF[names[0]] = package_of(names)
            packages.add(PACKAGE_OF[names[0]])
    return packages


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_imported_package_is_declared_where_its_module_needs_it(path: Path) -> None:
    place = path.relative_to(ROOT)
    declared = declared_packages()
    allowed = set(declared[""])
    for prefix, extras in EXTRAS.items():
        if place.is_relative_to(prefix):
            allowed |= set().union(*(declared[extra] for extra in extras))

    assert imported_packages(path) - allowed == set()
