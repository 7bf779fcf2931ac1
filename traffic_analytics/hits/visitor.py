"""Derive a visitor's session id and address; a session id cannot be traced back to an address."""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

MAX_ENTRIES = 32
"""Entries of X-Forwarded-For that are read; any client can send more, and each one costs time."""
MAX_ENTRY = 256
"""Length of an entry that is read, in characters."""

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = r"[1-9a-f][0-9a-f]{0,3}"
# Nearly all entries are one of these, and ipaddress takes ten times as long to return them as they are.
_PLAIN = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}|(?:{_GROUP}:){{7}}{_GROUP}")
_FORWARDED = re.compile(r"(?:^|;)\s*for\s*=([^;]*)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([^\]]*)(?:\](?::.*)?)?")
_PORT = re.compile(r":(?:[0-9]{0,5}|_[0-9A-Za-z._-]+)?$")
_PADDING = re.compile(r"(?<![0-9A-Za-z])0{1,2}(?=[0-9])")


def session_id(salt: str, site_uuid: str, address: str, user_agent: str) -> str:
    """Derive a visitor's identifier for one site and one UTC day.

    The salt is random, serves one site for one day and is then deleted, so the identifier cannot be traced back to an
    address afterwards, even by the operator. The order and the colons are a contract: services that share a salt store
    must derive the same identifier for the same visitor.
    """
    return sha256(f"{salt}:{site_uuid}:{address}:{user_agent}".encode("utf-8", "surrogatepass")).hexdigest()


def client_address(peer: str, forwarded_for: str | None, trusted_proxies: bool | int) -> str:
    """Return the visitor's address in its one spelling: an entry of X-Forwarded-For, or the peer of the connection.

    `trusted_proxies` is True to use the leftmost entry, False to use none, or the number of proxies in front of the
    service: each appends one entry, so the visitor's entry is that many from the right. An entry that is no address is
    passed over for the next on its right. With a number, that is the entry of the next trusted proxy; entries further
    left are the client's own words.
    """
    if forwarded_for and trusted_proxies:
        if trusted_proxies is True:
            entries = forwarded_for.split(",", MAX_ENTRIES)[:MAX_ENTRIES]
        else:
            entries = forwarded_for.rsplit(",", trusted_proxies)[-trusted_proxies:][:MAX_ENTRIES]
        for entry in entries:
            address = read_address(entry)
            if address is not None:
                return address
    return read_address(peer) or peer


def read_address(text: str) -> str | None:
    """Read any spelling of an address and return its one spelling; None if the text holds no address.

    Port, brackets, zone, quotes and the `for=` of a Forwarded header are removed. IPv6 is in lower case and compressed,
    and an IPv4-mapped address is the IPv4 address. Leading zeros of IPv4 are padding: proxies write no octal numbers.
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return text
    if len(text) > MAX_ENTRY or not ("." in text or ":" in text):
        return None
    if "=" in text and (forwarded := _FORWARDED.search(text)):
        text = forwarded[1]
    text = text.strip(" \t\"'")
    if bracketed := _BRACKETED.fullmatch(text):
        text = bracketed[1]
    without_port = _PORT.sub("", text)
    if text.count(":") == 1:  # IPv4 and a port
        return _parse(without_port)
    return _parse(text) or (_parse(without_port) if without_port != text else None)


def _parse(host: str) -> str | None:
    """Parse an address without port and brackets."""
    host = host.partition("%")[0]
    if "." in host:
        host = _PADDING.sub("", host)
    try:
        if ":" not in host:
            return str(IPv4Address(host))
        address = IPv6Address(host)
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)
