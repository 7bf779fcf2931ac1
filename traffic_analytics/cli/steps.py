"""Report named steps, each of which is good or has advice: the one thing to do next."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Step:
    """Result of one attempt, good if it has no advice. Neither text holds a token."""

    name: str
    advice: str | None = None


def report(steps: Iterable[Step], *, as_json: bool) -> NoReturn:
    """Print each step as it is tried, or all of them as one JSON object; exit with 1 if one is not good."""
    done = []
    for step in steps:
        done.append(step)
        if not as_json:
            mark = "ok" if step.advice is None else "FAIL"
            click.echo(f"{mark:<5} {step.name}" + (f": {step.advice}" if step.advice else ""))
    is_good = all(step.advice is None for step in done)
    if as_json:
        listed = [asdict(step) | {"ok": step.advice is None} for step in done]
        click.echo(msgspec.json.encode({"ok": is_good, "steps": listed}))
    sys.exit(0 if is_good else 1)
