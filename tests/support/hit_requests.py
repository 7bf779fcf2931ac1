"""Change hits, send them as WSGI requests, and read why one is refused."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from tests.support.app import page_hit

MISSING = object()


def changed(place: str, value: Any) -> dict[str, Any]:
    """Build a hit with one value changed or removed."""
    body: dict[str, Any] = page_hit()
    parent_object = body
    *parents, name = place.split(".")
    for parent in parents:
        parent_object = parent_object[parent]
    if value is MISSING:
        parent_object.pop(name, None)
    else:
        parent_object[name] = value
    return body


def refusal(answer: Any, status: int = 400, name: str = "Bad Request") -> str:
    """Check an error's shape and return its message."""
    assert answer.status_code == status
    assert answer.json == {"error": name, "message": answer.json["message"], "statusCode": status}
    assert answer.headers["access-control-allow-origin"] == "*"
    message: str = answer.json["message"]
    return message


def call(service: Any, environ: dict[str, Any]) -> Response:
    """Call the application with exactly this environment, which the test client would complete."""
    return Response.from_app(service.client.application, environ)
