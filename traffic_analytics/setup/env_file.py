"""Create and complete a `.env` file; a line that is there is never changed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEADER = "# traffic-analytics setup"
_OPTION = re.compile(r" --([a-z-]+)=(\S+)")
_PLAIN = re.compile(r"[\w./:@%+=,~-]*")


def recorded_options(file: Path) -> dict[str, str]:
    """Return the options that an earlier setup wrote into a comment, by name."""
    if not file.exists():
        return {}
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith(_HEADER)]
    return dict(_OPTION.findall(lines[-1])) if lines else {}


def add(file: Path, variables: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Append variables, and the options for the next setup; a new file is its owner's only."""
    lines = [_HEADER + "".join(f" --{name}={text}" for name, text in options.items())]
    lines += [f"{name}={_quote(text)}" for name, text in variables.items()]
    is_new = not file.exists()
    if not is_new and not file.read_bytes().endswith(b"\n"):
        lines.insert(0, "")
    flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if is_new else 0)
    with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


def _quote(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else f"'{text}'"
