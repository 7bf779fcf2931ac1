"""Read the token of a query, and verify and sign JWTs as Ghost does, for gateway, store and dashboard.

Ghost signs with the workspace's admin token (HS256) which pipes a dashboard may read, and for which site:

    {"exp": 1795350615, "scopes": [{"type": "PIPES:READ", "resource": "api_kpis", "fixed_params": {"site_uuid": "…"}}]}

Rules, the same in gateway and store:

- A token has at most LONGEST characters, all of them visible ASCII.
- The Authorization header counts before the query, also if it is a bearer without a token. Of several tokens in the
  query the first counts.
- Only HS256 is accepted. `exp` is required; `exp` and `nbf` are finite numbers: valid from `nbf`, before `exp`.
- A scope counts if its type is PIPES:READ and its resource a text. Each other scope grants nothing.
- `fixed_params` that is absent or null restricts nothing. Otherwise it is an object of texts and numbers; anything else
  refuses the whole token, also if it is falsy ([], "", 0, false): reading on without a restriction would show too much.
- Two scopes of the same resource must agree in their fixed parameters. A token in which they differ is refused whole:
  neither the first, nor the last, nor both can be right for certain.
- A scope grants both versions of a pipe (`api_kpis`, `api_kpis_v2`). The scope of the exact name counts first.
- Responses are shared only between tokens that agree in all scopes, also in those of other pipes.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.errors import TokenRefused
from traffic_analytics.runtime.authorization import bearer_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jwt.types import Options

LONGEST = 8000
"""Length of the longest token, in characters; Ghost's scopes for all pipes in both versions fit."""
_TOKEN = re.compile(rf"[\x21-\x7e]{{1,{LONGEST}}}")
_VERSION = "_v2"
# The claims are checked here, against the clock that the caller passes.
_OPTIONS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class NotAJwt(ValueError):
    """The token is well-formed but no JWT, such as one of Tinybird's static tokens; the caller decides."""


class Scopes(NamedTuple):
    """Scopes of a token: the fixed parameters of each resource.

    `canonical` is equal for two tokens exactly if they agree in all scopes, in any order.
    """

    pipes: Mapping[str, Mapping[str, str]]
    canonical: str

    def fixed_params(self, pipe: str) -> Mapping[str, str]:
        """Return the parameters that the token fixes for a pipe. Raises TokenRefused if it does not grant the pipe."""
        other = pipe.removesuffix(_VERSION) if pipe.endswith(_VERSION) else pipe + _VERSION
        for name in (pipe, other):
            if name in self.pipes:
                return self.pipes[name]
        raise TokenRefused("the token does not grant this pipe")


def sign_claims(claims: Mapping[str, object], admin_token: str) -> str:
    """Sign claims as Ghost does."""
    import jwt  # noqa: PLC0415 - an optional extra

    return jwt.encode(dict(claims), _hmac_key(admin_token), algorithm="HS256")


class JwtVerifier:
    """Verify tokens that were signed with one admin token."""

    def __init__(self, admin_token: str) -> None:
        import jwt  # noqa: PLC0415 - an optional extra

        self._jwt = jwt
        self._key = _hmac_key(admin_token)

    def verify(self, token: str, now: float) -> Scopes:
        """Return the scopes of a token that is valid at `now` (seconds since 1970). Raises NotAJwt, TokenRefused."""
        check_form(token)
        try:
            self._jwt.get_unverified_header(token)
        except self._jwt.DecodeError:
            raise NotAJwt("the token is not valid") from None
        except (self._jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("the token is not valid") from None
        try:
            claims = self._jwt.decode(token, self._key, algorithms=["HS256"], options=_OPTIONS)
        except (self._jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("the token is not valid") from None
        if not (_is_number(claims.get("exp")) and now < claims["exp"]):
            raise TokenRefused("the token has expired")
        if "nbf" in claims and not (_is_number(claims["nbf"]) and claims["nbf"] <= now):
            raise TokenRefused("the token is not valid yet")
        return _parse_scopes(claims.get("scopes"))


def extract_token(authorization: str | None, in_query: str | None) -> str | None:
    """Return the token of a request, from its Authorization header or its query."""
    in_header = bearer_token(authorization or "")
    return (in_query if in_header is None else in_header) or None


def check_form(token: str) -> None:
    """Raise TokenRefused unless the token's length and characters are valid."""
    if not _TOKEN.fullmatch(token):
        raise TokenRefused("the token is not valid")


def _hmac_key(admin_token: str) -> bytes:
    # HMAC itself pads a short key with zeros; doing so here avoids PyJWT's warning at each request.
    return admin_token.encode().ljust(32, b"\0")


def _parse_scopes(scopes: object) -> Scopes:
    scopes = scopes if isinstance(scopes, list) else []
    pipes: dict[str, dict[str, str]] = {}
    for scope in scopes:
        if not isinstance(scope, dict) or scope.get("type") != "PIPES:READ":
            continue
        resource = scope.get("resource")
        if not isinstance(resource, str):
            continue
        fixed = _parse_fixed_params(scope.get("fixed_params"))
        if pipes.setdefault(resource, fixed) != fixed:
            raise TokenRefused("the token's scopes contradict each other")
    try:
        canonical = json.dumps(sorted({json.dumps(scope, sort_keys=True) for scope in scopes}))
    except RecursionError:
        raise TokenRefused("the token is not valid") from None
    return Scopes(pipes, canonical)


def _parse_fixed_params(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) or _is_number(each) for each in value.values()):
        raise TokenRefused("the token's fixed parameters cannot be read")
    return {name: str(each) for name, each in value.items()}


def _is_number(value: object) -> bool:
    """Return whether a JSON value is a finite number; Python's reader accepts NaN and Infinity as well."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
