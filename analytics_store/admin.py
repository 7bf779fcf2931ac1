"""An operator's requests: all of them need the admin token."""

from collections.abc import Iterator

from flask import Blueprint, Response, request

from analytics_store import upkeep
from analytics_store.errors import ForbiddenError
from analytics_store.store import Store
from analytics_store.web import answer_json, store, token

blueprint = Blueprint("admin", __name__, url_prefix="/v0/store")


def _administered() -> Store:
    here = store()
    if not here.tokens.access(token(), here.clock()).administer:
        raise ForbiddenError("the token does not grant the store's upkeep")
    return here


@blueprint.get("/info")
def info() -> Response:
    """Tell what the store holds."""
    return answer_json(upkeep.info(_administered()))


@blueprint.get("/export")
def export() -> Response:
    """Stream a data source as NDJSON; the header says how many rows make it complete."""
    here = _administered()
    name = request.args.get("name", "")
    rows = upkeep.count(here, name)
    lines: Iterator[bytes] = upkeep.export(here, name)
    return Response(lines, mimetype="application/x-ndjson", headers={"x-store-rows": str(rows)})


@blueprint.post("/compact")
def compact() -> Response:
    """Put the file in order."""
    here = _administered()
    upkeep.compact(here)
    return answer_json(upkeep.info(here))
