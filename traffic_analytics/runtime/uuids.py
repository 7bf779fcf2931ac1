"""Recognize UUIDs."""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def is_uuid(text: str) -> bool:
    """Return whether the text has the form of a UUID, of any version, variant and case."""
    return _UUID.fullmatch(text) is not None
