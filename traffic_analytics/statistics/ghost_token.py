"""Ghost signs with the workspace's admin token which pipes of which site a dashboard may read (JWT, HS256)."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import jwt

from traffic_analytics.errors import TokenRefused
from traffic_analytics.statistics.access import Access, own_access

_OURS_TO_CHECK = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}


class GhostTokens:
    """Tells what a token may see, so that tokens of equal rights share answers."""

    def __init__(self, admin_token: str) -> None:
        # HMAC itself pads a short key with zeros; doing so here spares PyJWT's warning at each request.
        self._key = admin_token.encode().ljust(32, b"\0")
        self._workspace = "workspace " + sha256(admin_token.encode()).hexdigest()

    def rights(self, token: str, pipe: str, now: float) -> Access:
        """Check a token and say what it may see of a pipe. Raises TokenRefused.

        A token that is no JWT is left to the target to judge, and shares with nobody.
        """
        try:
            jwt.get_unverified_header(token)
        except jwt.DecodeError:
            return own_access(token, pipe, now)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("the token is not valid") from None
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"], options=_OURS_TO_CHECK)  # type: ignore[arg-type]
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("the token is not valid") from None
        if not (_is_number(claims.get("exp")) and now < claims["exp"]):
            raise TokenRefused("the token has expired")
        if "nbf" in claims and not (_is_number(claims["nbf"]) and claims["nbf"] <= now):
            raise TokenRefused("the token is not valid yet")
        granted = _granted(claims.get("scopes"), pipe)
        if not granted:
            raise TokenRefused("the token does not grant this pipe")
        if any(fixed != granted[0] for fixed in granted):
            # Which of the scopes the target goes by is its own affair.
            return own_access(token, pipe, now)
        return Access(
            f"{self._workspace} {json.dumps(granted[0], sort_keys=True)}", payer=self._workspace, fixed=granted[0]
        )


def _granted(scopes: Any, pipe: str) -> list[dict[str, str]]:
    """Return the fixed parameters of each scope that grants the pipe; its very name counts before its other version."""
    readable = [
        scope
        for scope in (scopes if isinstance(scopes, list) else [])
        if isinstance(scope, dict) and scope.get("type") == "PIPES:READ" and isinstance(scope.get("resource"), str)
    ]
    same = [scope for scope in readable if scope["resource"] == pipe]
    other = [scope for scope in readable if scope["resource"].removesuffix("_v2") == pipe.removesuffix("_v2")]
    return [_fixed(scope.get("fixed_params")) for scope in same or other]


def _fixed(given: Any) -> dict[str, str]:
    given = {} if given is None else given
    if not isinstance(given, dict) or not all(isinstance(value, str) or _is_number(value) for value in given.values()):
        # Reading on without a parameter that was meant to be fixed would tell too much.
        raise TokenRefused("the token's fixed parameters cannot be read")
    return {name: str(value) for name, value in given.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
