"""Read the files that the browser loads, once at the start."""

from __future__ import annotations

import gzip
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

_OF_DEVELOPMENT = {"jsconfig.json", "versions.json"}


class Asset(NamedTuple):
    """A file as it is and compressed."""

    content_type: str
    content: bytes
    compressed: bytes


class Assets:
    """Files by path. `version` changes with any of them, so that browsers may cache a file for good."""

    def __init__(self) -> None:
        self.files = dict(_read(resources.files("traffic_analytics.dashboard") / "static", ""))
        digest = sha256(b"".join(name.encode() + each.content for name, each in sorted(self.files.items())))
        self.version = digest.hexdigest()[:12]
        self.modules = sorted(name for name in self.files if name.endswith(".js") and name != "login.js")


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for each in folder.iterdir():
        if each.name in _OF_DEVELOPMENT:
            continue
        path = prefix + each.name
        if each.is_dir():
            yield from _read(each, path + "/")
        elif content_type := _TYPES.get(path[path.rfind(".") :]):
            content = each.read_bytes()
            yield path, Asset(content_type, content, gzip.compress(content, mtime=0))
