"""A visitor is known for one day, on one site, by a name that nobody can trace back."""

from __future__ import annotations

from hashlib import sha256


def session_id(salt: str, site_uuid: str, address: str, user_agent: str) -> str:
    """Name one visitor to one site for one day.

    The salt is random, serves one site for one UTC day and is then deleted, so a name cannot be traced back to an
    address afterwards, even by us. The colons and the order are a contract: services that share a salt store must give
    the same visitor the same name.
    """
    return sha256(f"{salt}:{site_uuid}:{address}:{user_agent}".encode("utf-8", "surrogatepass")).hexdigest()


def client_address(peer: str, forwarded_for: str | None, trusted_proxies: bool | int) -> str:
    """Find the visitor's address: the socket's peer, or what trusted proxies say of it.

    `trusted_proxies` is True to believe the leftmost entry of X-Forwarded-For, False to believe none, or the number of
    proxies in front of us: each appended one entry, so the visitor is that many from the right.
    """
    if not forwarded_for or trusted_proxies is False or trusted_proxies == 0:
        return peer
    entries = forwarded_for.split(",")
    entry = entries[0] if trusted_proxies is True else entries[-min(trusted_proxies, len(entries))]
    return entry.strip() or peer
