"""Derive from a token which parameters it fixes, and with which other tokens it shares responses."""

from __future__ import annotations

from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.tinybird.jwt import JwtVerifier, NotAJwt

if TYPE_CHECKING:
    from collections.abc import Mapping


class Access(NamedTuple):
    """Access of a token to one pipe.

    Tokens with equal `readers` share responses; tokens with equal `payer` share a rate limit. Neither value reveals the
    token. `fixed` are the parameters that a request cannot change. `is_verified` is False for a token that only the
    target can check, where the tokens of Ghost are verified here.
    """

    readers: str
    payer: str
    fixed: Mapping[str, str] = MappingProxyType({})
    is_verified: bool = True


def own_access(token: str, _pipe: str, _now: float) -> Access:
    """Share with no other token: only the target can check what this one may read."""
    own = "token " + sha256(token.encode()).hexdigest()
    return Access(own, own)


class SharedAccess:
    """Derive access from the JWTs that Ghost signs, so that tokens with the same scopes share responses."""

    def __init__(self, admin_token: str) -> None:
        self._verifier = JwtVerifier(admin_token)
        self._workspace = "workspace " + sha256(admin_token.encode()).hexdigest()

    def check(self, token: str, pipe: str, now: float) -> Access:
        """Verify a token and derive its access to a pipe. Raises TokenRefused.

        A token that is no JWT is passed on unverified, and shares with no other.
        """
        try:
            scopes = self._verifier.verify(token, now)
        except NotAJwt:
            return own_access(token, pipe, now)._replace(is_verified=False)
        fixed = scopes.fixed_params(pipe)
        return Access(f"{self._workspace} {scopes.canonical}", payer=self._workspace, fixed=fixed)
