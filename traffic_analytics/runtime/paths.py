"""Read the path of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SLASHES = re.compile("/{2,}")


def merge_slashes(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Read several slashes in a row as one, as in the path of a base URL that ends in a slash.

    Flask would redirect, and clients lose a redirected request. RAW_URI stays as it is: signatures cover it.
    """

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if "//" in path:
            environ["PATH_INFO"] = _SLASHES.sub("/", path)
        return app(environ, start_response)

    return call
