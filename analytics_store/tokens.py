"""Check tokens: the three static ones, and the JWTs that Ghost signs with the first of them."""

import hmac
from dataclasses import dataclass

from analytics_store.errors import ForbiddenError
from analytics_store.settings import Settings
from traffic_analytics.errors import TokenRefused
from traffic_analytics.tinybird.jwt import JwtVerifier, NotAJwt, Scopes


@dataclass(frozen=True, slots=True)
class Access:
    """Access of a token. `scopes` are a JWT's; a token without scopes reads every pipe if `read` is set."""

    append: bool = False
    administer: bool = False
    read: bool = False
    scopes: Scopes | None = None

    def fixed_params(self, pipe: str) -> dict[str, str]:
        """Return the parameters that the token fixes for a pipe. Raises ForbiddenError if it may not read the pipe."""
        if not self.read:
            raise ForbiddenError("the token does not grant this pipe")
        if self.scopes is None:
            return {}
        try:
            return dict(self.scopes.fixed_params(pipe))
        except TokenRefused as error:
            raise ForbiddenError(str(error)) from None


FULL_ACCESS = Access(append=True, administer=True, read=True)


class Tokens:
    """Map a token to its access."""

    def __init__(self, settings: Settings) -> None:
        self._static = [
            (token.encode(), access)
            for token, access in (
                (settings.admin_token, FULL_ACCESS),
                (settings.tracker_token, Access(append=True)),
                (settings.stats_token, Access(read=True)),
            )
            if token
        ]
        self._verifier = JwtVerifier(settings.admin_token) if settings.admin_token else None
        self._open = settings.open_to_all

    def access(self, token: str | None, now: float) -> Access:
        """Return the access of a token. Raises ForbiddenError if it is missing, unknown or expired.

        Without any configured token every client may do everything; the settings then allow loopback only.
        """
        if self._open:
            return FULL_ACCESS
        if not token:
            raise ForbiddenError("a token is needed")
        for static, access in self._static:
            if hmac.compare_digest(token.encode(), static):
                return access
        if self._verifier is None:
            raise ForbiddenError("the token is not valid")
        try:
            return Access(read=True, scopes=self._verifier.verify(token, now))
        except (TokenRefused, NotAJwt) as error:
            raise ForbiddenError(str(error)) from None
