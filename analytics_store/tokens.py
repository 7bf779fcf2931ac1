"""A token says what its bearer may do, and a fixed parameter of a JWT outranks whatever the request says."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from analytics_store.endpoints import plain_name
from analytics_store.errors import ForbiddenError
from analytics_store.settings import Settings

# A scope for each pipe of both versions fits many times; more would be an attempt to keep us busy.
LONGEST = 64_000


@dataclass(frozen=True, slots=True)
class Rights:
    """What a bearer may do; `pipes` maps each readable pipe to its fixed parameters, None means every pipe."""

    append: bool = False
    administer: bool = False
    pipes: Mapping[str, dict[str, str]] | None = field(default_factory=dict)

    def fixed_for(self, pipe: str) -> dict[str, str]:
        """Tell the parameters that a pipe's reader cannot choose, or raise ForbiddenError."""
        if self.pipes is None:
            return {}
        try:
            return self.pipes[plain_name(pipe)]
        except KeyError:
            raise ForbiddenError("the token does not grant this pipe") from None


EVERYTHING = Rights(append=True, administer=True, pipes=None)


class Tokens:
    """The three static tokens, and the JWTs that Ghost signs with the first of them."""

    def __init__(self, settings: Settings) -> None:
        self._admin = settings.admin_token
        self._static = [
            (settings.admin_token, EVERYTHING),
            (settings.tracker_token, Rights(append=True)),
            (settings.stats_token, Rights(pipes=None)),
        ]
        self._open = settings.open_to_all

    def rights(self, token: str | None, now: float) -> Rights:
        """Tell what the bearer may do, or raise ForbiddenError for a token that is missing, unknown or expired.

        Without any configured token everyone may do everything: the settings have seen to it that the store listens on
        loopback only.
        """
        if self._open:
            return EVERYTHING
        if not token:
            raise ForbiddenError("a token is needed")
        given = token.encode()
        granted = [rights for static, rights in self._static if static and hmac.compare_digest(given, static.encode())]
        if granted:
            return granted[0]
        if self._admin is None or token.count(".") != 2 or len(token) > LONGEST:
            raise ForbiddenError("the token is not valid")
        return self._signed(token, self._admin, now)

    def _signed(self, token: str, secret: str, now: float) -> Rights:
        try:
            claims = jwt.decode(
                token,
                # HMAC itself pads a short key with zeros; doing so here spares PyJWT's warning at each request.
                secret.encode().ljust(32, b"\0"),
                algorithms=["HS256"],
                # The expiry is checked below, against the clock that everything else goes by.
                options={
                    "require": ["exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_sub": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise ForbiddenError("the token is not valid") from None
        if not (_number(claims["exp"]) and claims["exp"] > now):
            raise ForbiddenError("the token has expired")
        if "nbf" in claims and not (_number(claims["nbf"]) and claims["nbf"] <= now):
            raise ForbiddenError("the token is not valid yet")
        return Rights(pipes=_scopes(claims))


def _scopes(claims: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    scopes = claims.get("scopes")
    pipes: dict[str, dict[str, str]] = {}
    for scope in scopes if isinstance(scopes, list) else []:
        if not (
            isinstance(scope, dict) and scope.get("type") == "PIPES:READ" and isinstance(scope.get("resource"), str)
        ):
            continue
        fixed = scope.get("fixed_params") or {}
        if not (isinstance(fixed, dict) and all(isinstance(v, str | int | float) for v in fixed.values())):
            # Reading on without a parameter that was meant to be fixed would tell too much.
            raise ForbiddenError("the token's fixed parameters cannot be read")
        # The first scope of a pipe counts, in either version of its name.
        pipes.setdefault(plain_name(scope["resource"]), {name: str(value) for name, value in fixed.items()})
    return pipes


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
