"""Sign the short-lived tokens with which the browser queries pipes; the admin token stays here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.tinybird.jwt import sign_claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traffic_analytics.dashboard.sessions import Visitor

TOKEN_SECONDS = 600
"""Time for which a token is valid, in seconds."""
SITES_PIPE = "api_sites"
SITE_PIPES = (
    "api_active_visitors",
    "api_kpis",
    SITES_PIPE,
    "api_top_browsers",
    "api_top_devices",
    "api_top_locations",
    "api_top_os",
    "api_top_pages",
    "api_top_sources",
    "api_top_utm_campaigns",
    "api_top_utm_contents",
    "api_top_utm_mediums",
    "api_top_utm_sources",
    "api_top_utm_terms",
)


class Token(NamedTuple):
    """A token and the seconds for which it is valid."""

    text: str
    seconds: int


class Tokens:
    """Sign tokens in the shape of Ghost's."""

    def __init__(self, admin_token: str, workspace_id: str) -> None:
        self._admin_token = admin_token
        self._workspace_id = workspace_id

    def sign(self, site: str | None, visitor: Visitor, now: float) -> Token:
        """Sign a token for all pipes of one site, or without a site for the list of all sites."""
        expiry = int(min(now + TOKEN_SECONDS, visitor.until))
        if site is None:
            name, scopes = "traffic-analytics-sites", [_scope(SITES_PIPE, {})]
        else:
            name, scopes = f"tinybird-jwt-{site}", [_scope(pipe, {"site_uuid": site}) for pipe in SITE_PIPES]
        claims = {"workspace_id": self._workspace_id, "name": name, "exp": expiry, "scopes": scopes}
        return Token(sign_claims(claims, self._admin_token), expiry - int(now))


def _scope(pipe: str, fixed: Mapping[str, str]) -> dict[str, object]:
    return {"type": "PIPES:READ", "resource": pipe, "fixed_params": dict(fixed)}
