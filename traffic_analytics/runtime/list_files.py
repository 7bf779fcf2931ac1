"""Read the operator's own lists of bots and of referrers: one entry on each line; lines with `#` first are comments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ada_url

from traffic_analytics.runtime.env_values import BadFile

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST = 3
"""Length of the shortest part of a user agent that can identify a bot, in characters."""
REPORTED = 5
"""Mistakes of a file that are reported."""
_BROWSERS = """
mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/120.0.0.0 safari/537.36
mozilla/5.0 (linux; android 10; k) applewebkit/537.36 (khtml, like gecko) chrome/120.0.0.0 mobile safari/537.36
mozilla/5.0 (macintosh; intel mac os x 10_15_7) applewebkit/605.1.15 (khtml, like gecko) version/17.4 safari/605.1.15
mozilla/5.0 (iphone; cpu iphone os 17_4 like mac os x) applewebkit/605.1.15 (khtml, like gecko) mobile/15e148 safari/60
mozilla/5.0 (x11; linux x86_64; rv:128.0) gecko/20100101 firefox/128.0
"""


def bot_list(text: str) -> tuple[str, ...]:
    """Read the file of that name as parts of user agents, in lower case."""
    return tuple(_read(Path(text), _bot))


def referrer_list(text: str) -> frozenset[str]:
    """Read the file of that name as hosts, as browsers write them: lower case, in ASCII; exempt ones begin with `-`."""
    return frozenset(_read(Path(text), _referrer))


def _read(path: Path, read_entry: Callable[[str], str]) -> list[str]:
    """Read the entries of a file. Raises BadFile with line and rule of each mistake."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadFile(f"must be a file that can be read, but {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadFile(f"must be a file of text in UTF-8, but {path} is not") from None
    entries, mistakes = [], []
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            entries.append(read_entry(entry))
        except ValueError as error:
            mistakes.append(f"{path}, line {number}: {error}")
    if mistakes:
        left_out = f"; and {len(mistakes) - REPORTED} more" if len(mistakes) > REPORTED else ""
        raise BadFile("; ".join(mistakes[:REPORTED]) + left_out)
    return entries


def _bot(entry: str) -> str:
    part = entry.lower()
    if not (part.isascii() and part.isprintable() and len(part) >= SHORTEST):
        raise ValueError(f"must be at least {SHORTEST} printable ASCII characters")
    if part in _BROWSERS:
        raise ValueError("must not be a part of every visitor's browser")
    return part


def _referrer(entry: str) -> str:
    host = read_host(entry.removeprefix("-"))
    return f"-{host}" if entry.startswith("-") else host


def read_host(entry: str) -> str:
    """Return a host as browsers write it. Raises ValueError with the rule."""
    rule = "must be a host such as spam.example, without scheme and path"
    try:
        host = ada_url.parse_url(f"http://{entry}/", ("hostname",))["hostname"]
    except ValueError:
        raise ValueError(rule) from None
    if "." not in host.strip(".") or not entry.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ValueError(rule)
    return str(host)
