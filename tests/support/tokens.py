"""Tokens of every kind, with the verdict that gateway and store must share."""

from __future__ import annotations

import base64
import functools
import hmac
import json
from typing import Any, NamedTuple

from tests.support.app import NOW, OTHER_SITE, SITE
from traffic_analytics.tinybird.jwt import LONGEST

ADMIN = "p.admin-token"
PIPE = "api_top_pages"
QUERY = f"date_from=2026-11-01&date_to=2026-11-30&site_uuid={OTHER_SITE}"
"""Query of another site than that of the tokens."""
HOUR = 3600


class Case(NamedTuple):
    """A token and the site whose rows it reads with QUERY; None if it is refused.

    `is_jwt` is False for tokens that the gateway leaves to the target.
    """

    name: str
    token: str
    site: str | None
    is_jwt: bool = True


def part(content: object) -> str:
    """Encode one part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@functools.cache
def _sign(head: str, body: str, secret: str, digest: str) -> str:
    signature = hmac.digest(secret.encode(), f"{head}.{body}".encode(), digest)
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def sign(claims: object, secret: str = ADMIN, **header: object) -> str:
    """Sign a JWT, without the checks of a library."""
    return _sign(part({"typ": "JWT", "alg": "HS256"} | header), part(claims), secret, "sha256")


def scope(resource: object = PIPE, **changes: object) -> dict[str, object]:
    return {"type": "PIPES:READ", "resource": resource, "fixed_params": {"site_uuid": SITE}} | changes


def fixed(params: object, resource: str = PIPE) -> dict[str, object]:
    return scope(resource, fixed_params=params)


def claims(*scopes: object, **changes: Any) -> dict[str, Any]:
    expiry = int(NOW.timestamp()) + 3 * HOUR
    return {"workspace_id": "w", "name": "tinybird-jwt", "exp": expiry, "scopes": list(scopes) or [scope()]} | changes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def of_length(length: int) -> str:
    """Sign a token of at most this many characters, and not four fewer."""
    padding = max(0, 3 * (length - len(sign(claims(name="")))) // 4 - 4)
    while len(token := sign(claims(name="x" * (padding + 1)))) <= length:
        padding += 1
    token = sign(claims(name="x" * padding))
    assert length - 3 <= len(token) <= length
    return token


def raw(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


UNRESTRICTED = {"type": "PIPES:READ", "resource": PIPE}
PIPE_V2 = f"{PIPE}_v2"
OTHER = {"site_uuid": OTHER_SITE}
MINE = {"site_uuid": SITE}
SECONDS = NOW.timestamp()

READS_ITS_SITE = {
    "as Ghost signs it": claims(),
    "of the pipe's other version": claims(scope(PIPE_V2)),
    "whose exact scope comes second": claims(fixed(OTHER, PIPE_V2), fixed(MINE)),
    "whose exact scope comes first": claims(fixed(MINE), fixed(OTHER, PIPE_V2)),
    "with the same scope twice": claims(scope(), scope()),
    "with scopes that agree but for the kind of value": claims(
        fixed(MINE | {"limit": 5}), fixed({"limit": "5"} | MINE)
    ),
    "with a number as fixed parameter": claims(fixed(MINE | {"limit": 5})),
    "with other pipes": claims(scope("api_kpis"), scope(), fixed(OTHER, "api_top_sources")),
    "with scopes of other kinds": claims({"type": "DATASOURCES:READ", "resource": PIPE}, scope()),
    "with entries that are no scopes": claims(1, None, {}, scope([PIPE]), scope(None), scope()),
    "with an expiry that is no integer": claims(exp=SECONDS + 0.5 + HOUR),
    "valid since an hour": claims(nbf=int(SECONDS) - HOUR),
    "with claims that mean nothing here": claims(iss="x", aud="y", sub=1, iat=SECONDS + HOUR, jti=2),
}
READS_EVERY_SITE = {
    "without fixed parameters": claims(UNRESTRICTED),
    "with null as fixed parameters": claims(fixed(None)),
    "with no fixed parameter in the object": claims(fixed({})),
}
REFUSED = {
    "expired": claims(exp=int(SECONDS) - HOUR),
    "without an expiry": without("exp"),
    "with null as expiry": claims(exp=None),
    "with an expiry in words": claims(exp="2099"),
    "with true as expiry": claims(exp=True),
    "with an endless expiry": claims(exp=float("inf")),
    "with an expiry that is no number": claims(exp=float("nan")),
    "not valid yet": claims(nbf=int(SECONDS) + HOUR),
    "valid from a time in words": claims(nbf="2020"),
    "valid from null": claims(nbf=None),
    "valid from false": claims(nbf=False),
    "without scopes": without("scopes"),
    "with null as scopes": claims(scopes=None),
    "with an object as scopes": claims(scopes={"0": scope()}),
    "with an empty list of scopes": claims(scopes=[]),
    "of another pipe": claims(scope("api_kpis")),
    "of a pipe with a longer name": claims(scope(f"{PIPE_V2}_v2"), scope(f"{PIPE}2")),
    "of another kind of scope": claims(scope(type="DATASOURCES:READ")),
    "with a list as fixed parameters": claims(fixed([])),
    "with a text as fixed parameters": claims(fixed("")),
    "with zero as fixed parameters": claims(fixed(0)),
    "with false as fixed parameters": claims(fixed(False)),
    "with null as a fixed parameter": claims(fixed({"site_uuid": None})),
    "with an object as a fixed parameter": claims(fixed({"site_uuid": {"a": 1}})),
    "with several values of a fixed parameter": claims(fixed({"site_uuid": [SITE, OTHER_SITE]})),
    "with true as a fixed parameter": claims(fixed(MINE | {"flag": True})),
    "with an endless fixed parameter": claims(fixed(MINE | {"limit": float("inf")})),
    "with unreadable parameters of another pipe": claims(scope(), fixed([], "api_kpis")),
    "with scopes that contradict each other": claims(fixed(MINE), fixed(OTHER)),
    "with scopes that contradict each other the other way round": claims(fixed(OTHER), fixed(MINE)),
    "with a restricted and an unrestricted scope": claims(UNRESTRICTED, scope()),
    "with a contradiction about another pipe": claims(scope(), scope("api_kpis"), fixed(OTHER, "api_kpis")),
    "with claims that are no object": [1],
}
SIGNED_WRONGLY = {
    "signed with another secret": sign(claims(), "p.another-admin-token"),
    "unsigned": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims())}.",
    "called unsigned, with a signature": sign(claims(), alg="none"),
    "called unsigned in capitals": sign(claims(), alg="NONE"),
    "of a longer hash": _sign(part({"alg": "HS512"}), part(claims()), ADMIN, "sha512"),
    "of an asymmetric algorithm": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims())}.c2lnbmF0dXJl",
    "called asymmetric, with a signature": sign(claims(), alg="RS256"),
    "without an algorithm": f"{part({'typ': 'JWT'})}.{part(claims())}.c2ln",
    "with a list of algorithms": sign(claims(), alg=["HS256"]),
    "with a key of its own": sign(claims(), kid=1),
    "with claims that nest too deeply": _sign(part({"alg": "HS256"}), raw(b"[" * 2500 + b"]" * 2500), ADMIN, "sha256"),
    "with the claims of another token": f"{sign(claims(scope('api_kpis'))).partition('.')[0]}"
    f".{part(claims())}.{sign(claims(scope('api_kpis'))).rpartition('.')[2]}",
    "longer than allowed": of_length(LONGEST + 4),
    "far too long": "a." * 100_000,
    "with a blank": "with blank",
    "that is not ASCII": "st\u00e4ts",
}
NO_JWT = {
    "that is static": "p.eyJ1IjogIndoZXRoZXIifQ.signature",
    "that is a word": "something",
    "of three words": "a.b.c",
    "with a list as header": f"{raw(b'[]')}.{part(claims())}.c2ln",
    "with bytes as header": f"{raw(bytes([255]))}.{part(claims())}.c2ln",
    "with half a header": f"{raw(b'{')}.{part(claims())}.c2ln",
    "with half a signature": f"{part({'alg': 'HS256'})}.{part(claims())}.a",
    "with a detached payload": sign(claims(), b64=False, crit=["b64"]),
    "with a header that nests too deeply": f"{raw(b'[' * 5000)}.{part(claims())}.c2ln",
    "followed by another": f"{sign(claims())},{sign(claims())}",
    "of two parts": ".".join(sign(claims()).split(".")[:2]),
}

CASES = [
    *(Case(name, sign(content), SITE) for name, content in READS_ITS_SITE.items()),
    Case("as long as allowed", of_length(LONGEST), SITE),
    *(Case(name, sign(content), OTHER_SITE) for name, content in READS_EVERY_SITE.items()),
    *(Case(name, sign(content), None) for name, content in REFUSED.items()),
    *(Case(name, token, None) for name, token in SIGNED_WRONGLY.items()),
    *(Case(name, token, None, is_jwt=False) for name, token in NO_JWT.items()),
]
