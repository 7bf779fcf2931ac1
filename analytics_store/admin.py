"""Serve the operator's requests, all of which need the admin token."""

from collections.abc import Iterator

from flask import Blueprint, Response, request

from analytics_store import maintenance
from analytics_store.errors import ForbiddenError
from analytics_store.store import Store
from analytics_store.web import get_store, get_token, to_json

blueprint = Blueprint("admin", __name__, url_prefix="/v0/store")


def _administered_store() -> Store:
    store = get_store()
    if not store.tokens.access(get_token(), store.clock()).administer:
        raise ForbiddenError("the token does not grant the store's maintenance")
    return store


@blueprint.get("/info")
def info() -> Response:
    """Return the counts of the store's content, and its size on disk."""
    return to_json(maintenance.info(_administered_store()))


@blueprint.get("/export")
def export() -> Response:
    """Stream a data source as NDJSON; a header holds the number of rows of a complete export."""
    store = _administered_store()
    name = request.args.get("name", "")
    rows = maintenance.count(store, name)
    lines: Iterator[bytes] = maintenance.export(store, name)
    return Response(lines, mimetype="application/x-ndjson", headers={"x-store-rows": str(rows)})


@blueprint.post("/import")
def import_rows() -> Response:
    """Add rows of a data source, without the journal; return how many were new, already there, and quarantined."""
    store = _administered_store()
    return to_json(maintenance.import_rows(store, request.args.get("name", ""), request.get_data(cache=False)))


@blueprint.post("/compact")
def compact() -> Response:
    """Compact the file."""
    store = _administered_store()
    maintenance.compact(store)
    return to_json(maintenance.info(store))
