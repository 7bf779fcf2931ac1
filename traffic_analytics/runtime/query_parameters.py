"""Read the parameters of a query, in the URL or in a body, with one limit for service and store."""

from __future__ import annotations

import msgspec

PARAMETERS_LIMIT = 32_768
"""Length of a query's URL or body, in bytes: 500 posts and a token are 24 000, however their list is encoded.

Service and store set gunicorn's MAX_REQUEST_LINE to it, since gunicorn cuts larger values of limit_request_line.
"""


def read_json(body: bytes) -> dict[str, str]:
    """Read parameters from a JSON object as their texts; null is a missing parameter.

    A list is its values with commas between them. Raises ValueError, whose message quotes no value.
    """
    try:
        parameters = msgspec.json.decode(body, type=dict[str, object]) if body.strip() else {}
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object of parameters") from None
    return {name: _text(name, value) for name, value in parameters.items() if value is not None}


def _text(name: str, value: object) -> str:
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return ",".join(_text(name, part) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"parameter {name}: must be a text, a number or a list of them")
