"""Answers are shared by those who may see the same, and by nobody else."""

from __future__ import annotations

import re
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.errors import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"[\x21-\x7e]{1,8000}")


class Access(NamedTuple):
    """What a token may see of one pipe.

    `readers` names all whose rights are the same, `payer` those whose queries count towards the same limit; neither
    tells the token. `fixed` are the parameters that the request has no say in.
    """

    readers: str
    payer: str
    fixed: Mapping[str, str] = MappingProxyType({})


def own_access(token: str, _pipe: str, _now: float) -> Access:
    """Let a token share with nobody: we cannot tell what it may see, only the target can."""
    own = "token " + sha256(token.encode()).hexdigest()
    return Access(own, own)


def extract_token(authorization: str | None, in_query: str | None) -> str:
    """Find the caller's token: the Authorization header counts before the query. Raises TokenRefused."""
    scheme, _, in_header = (authorization or "").partition(" ")
    token = in_header.strip() if scheme.lower() == "bearer" else in_query
    if not token:
        raise TokenRefused("a token is needed")
    if not _TOKEN.fullmatch(token):
        raise TokenRefused("the token is not valid")
    return token
