"""Parse a query for statistics into one canonical form: a pipe and its sorted parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlencode

from traffic_analytics.errors import InvalidQuery, UnknownPipe
from traffic_analytics.runtime.query_parameters import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARAMETERS = 100
_FILE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,99})\.json")
# Names the part of Ghost that sends the query; no pipe reads it. Ghost's browser and server then share responses.
_IGNORED = frozenset({"ghost_client"})


class Query(NamedTuple):
    """A pipe and its parameters, sorted by name; values of a repeated name keep their order."""

    pipe: str
    parameters: tuple[tuple[str, str], ...]

    def restrict(self, fixed: Mapping[str, str]) -> Query:
        """Return the query with the parameters that a token fixes in place of the request's own."""
        free = [(name, value) for name, value in self.parameters if name not in fixed]
        return Query(self.pipe, _sort([*free, *fixed.items()]))

    @property
    def path(self) -> str:
        """Format path and query for the target; nothing of the request's own spelling is sent."""
        query = urlencode(self.parameters)
        return f"/v0/pipes/{self.pipe}.json" + (f"?{query}" if query else "")


def parse_query(file: str, query_string: str) -> tuple[Query, str | None]:
    """Parse the last part of the path and the query string; also return the token, if the query string holds one.

    A parameter with an empty value remains: it filters for the empty value. Raises UnknownPipe and InvalidQuery.
    """
    name = _FILE.fullmatch(file)
    if name is None:
        raise UnknownPipe("only /v0/pipes/NAME.json is served here")
    try:
        # WSGI passes the bytes of a query string as Latin-1.
        text = query_string.encode("latin-1", "replace").decode("utf-8", "replace")
        parameters = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise InvalidQuery(f"query: must hold at most {MAX_PARAMETERS} parameters") from None
    token = next((value for name, value in parameters if name == "token"), None)
    return Query(name[1], _sort([each for each in parameters if each[0] not in {"token", *_IGNORED}])), token


def add_body(query_string: str, mimetype: str, body: bytes) -> str:
    """Add the parameters of a body, a form or a JSON object, to a query string, which outranks them.

    Raises InvalidQuery.
    """
    try:
        given = dict(parse_qsl(query_string, keep_blank_values=True, max_num_fields=MAX_PARAMETERS))
        if mimetype == "application/json":
            parameters = read_json(body)
        else:
            text = body.decode("utf-8", "replace")
            # The first of equal names counts.
            parameters = dict(reversed(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)))
    except ValueError as error:
        raise InvalidQuery(f"body: {error}") from None
    added = urlencode({name: value for name, value in parameters.items() if name not in given})
    return "&".join(part for part in (query_string, added) if part)


def _sort(parameters: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(parameters, key=lambda each: each[0]))
