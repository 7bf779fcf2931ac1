"""Read a `.env` file, and name every line in it that sets nothing."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dotenv.parser import Binding

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env_file(file: Path) -> tuple[dict[str, str], list[str]]:
    """Return the variables of a file and the mistakes in it; a file that does not exist sets nothing.

    A mistake names the line and quotes nothing of it, since the line may hold a secret.
    """
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{file}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError:
        return {}, [f"{file}: is not UTF-8 text; save it in that encoding"]
    bindings = list(parse_stream(io.StringIO(text)))
    readable = "".join(each.original.string for each in bindings if not each.error)
    variables = {name: value or "" for name, value in dotenv_values(stream=io.StringIO(readable)).items()}
    return variables, [f"{file}: {mistake}" for mistake in _mistakes(bindings)]


def _mistakes(bindings: list[Binding]) -> Iterator[str]:
    """Yield the mistakes. A name without a value is none: it leaves the variable unset."""
    for each in bindings:
        string = each.original.string
        blank = string[: len(string) - len(string.lstrip())]
        line = each.original.line + blank.count("\n")
        if each.error:
            yield f"line {line} cannot be read; it must be NAME=value, and a quote that begins must end"
        elif each.key is not None and not _NAME.fullmatch(each.key):
            yield f"line {line} must begin with the name of a variable and ="
