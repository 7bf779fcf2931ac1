"""Read the Authorization header of a request."""

from __future__ import annotations


def bearer_token(authorization: str) -> str | None:
    """Return the token of an Authorization header, or None if the header is empty or has another scheme.

    The token is the empty string if the header holds only the scheme.
    """
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
