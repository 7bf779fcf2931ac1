"""Derive a visitor's session id and address; a session id cannot be traced back to an address."""

from __future__ import annotations

from hashlib import sha256


def session_id(salt: str, site_uuid: str, address: str, user_agent: str) -> str:
    """Derive a visitor's identifier for one site and one UTC day.

    The salt is random, serves one site for one day and is then deleted, so the identifier cannot be traced back to an
    address afterwards, even by the operator. The order and the colons are a contract: services that share a salt store
    must derive the same identifier for the same visitor.
    """
    return sha256(f"{salt}:{site_uuid}:{address}:{user_agent}".encode("utf-8", "surrogatepass")).hexdigest()


def client_address(peer: str, forwarded_for: str | None, trusted_proxies: bool | int) -> str:
    """Return the visitor's address: the peer of the connection, or an entry of X-Forwarded-For.

    `trusted_proxies` is True to use the leftmost entry, False to use none, or the number of proxies in front of the
    service: each appends one entry, so the visitor's entry is that many from the right.
    """
    if not forwarded_for or trusted_proxies is False or trusted_proxies == 0:
        return peer
    entries = forwarded_for.split(",")
    entry = entries[0] if trusted_proxies is True else entries[-min(trusted_proxies, len(entries))]
    return entry.strip() or peer
