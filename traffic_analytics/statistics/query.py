"""What a dashboard asks is one pipe and its parameters, and has one spelling, however it was written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlencode

from traffic_analytics.errors import InvalidQuery, UnknownPipe

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PARAMETERS = 100
_FILE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,99})\.json")
# Says which part of Ghost asks and is a parameter of no endpoint: its browser and server calls share their answers.
_IRRELEVANT = frozenset({"ghost_client"})


class Query(NamedTuple):
    """A pipe and its parameters by name; values of a repeated name keep their order."""

    pipe: str
    parameters: tuple[tuple[str, str], ...]

    def under(self, fixed: Mapping[str, str]) -> Query:
        """Return the question as a token lets it be asked: what the token fixes outranks what the request says."""
        free = [each for each in self.parameters if each[0] not in fixed]
        return Query(self.pipe, _in_order([*free, *fixed.items()]))

    @property
    def path(self) -> str:
        """Write the question as the target takes it. What is asked is this, never the request's own words."""
        query = urlencode(self.parameters)
        return f"/v0/pipes/{self.pipe}.json" + (f"?{query}" if query else "")


def parse(file: str, query: str) -> tuple[Query, str | None]:
    """Read the last part of the path and the query; returns the question, and the token if the query holds one.

    A parameter that is given but empty is kept: it filters for the empty value.
    """
    name = _FILE.fullmatch(file)
    if name is None:
        raise UnknownPipe("only /v0/pipes/NAME.json is served here")
    try:
        # Servers hand the bytes of a query over as Latin-1.
        text = query.encode("latin-1", "replace").decode("utf-8", "replace")
        given = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise InvalidQuery(f"query: must hold at most {MOST_PARAMETERS} parameters") from None
    token = next((value for each, value in given if each == "token" and value), None)
    return Query(name[1], _in_order([e for e in given if e[0] != "token" and e[0] not in _IRRELEVANT])), token


def _in_order(parameters: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(parameters, key=lambda each: each[0]))
