"""Serve the operator's requests, all of which need the admin token."""

import logging
from collections.abc import Iterator
from dataclasses import asdict

from flask import Blueprint, Response, request

from analytics_store import maintenance
from analytics_store.errors import ForbiddenError, RequestError
from analytics_store.store import Store
from analytics_store.web import get_store, get_token, read_body, to_json
from traffic_analytics.errors import AnalyticsError
from traffic_analytics.runtime.env_values import site_uuids

_log = logging.getLogger(__name__)

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
    """Stream a data source, or one site of it, as NDJSON; a header holds the number of rows of a complete export."""
    store = _administered_store()
    name, site = request.args.get("name", ""), request.args.get("site")
    site = None if site is None else _site(site)
    rows, lines = maintenance.export(store, name, site)
    first = next(lines, b"")  # an error before any line is a response of its own
    return Response(_log_failure(first, lines), mimetype="application/x-ndjson", headers={"x-store-rows": str(rows)})


def _log_failure(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Log an error that ends a response whose status has been sent."""
    try:
        yield first
        yield from lines
    except AnalyticsError as error:
        _log.error("an export broke off: %s", error, extra={"event": "RequestFailed", "endpoint": "admin.export"})
        raise


@blueprint.post("/import")
def import_rows() -> Response:
    """Add rows of a data source, without the journal; return how many were new, already there, and quarantined."""
    store = _administered_store()
    return to_json(maintenance.import_rows(store, request.args.get("name", ""), read_body()))


@blueprint.get("/sites")
def sites() -> Response:
    """Return each site with the counts of its content."""
    return to_json({"sites": maintenance.sites(_administered_store())})


@blueprint.delete("/sites/<site>")
def delete_site(site: str) -> Response:
    """Delete all rows of a site, and rewrite the file."""
    return to_json({"hits_deleted": maintenance.delete_site(_administered_store(), _site(site))})


@blueprint.get("/quarantine")
def quarantine() -> Response:
    """Return the rows in quarantine."""
    return to_json({"rows": [asdict(row) for row in maintenance.quarantined(_administered_store())]})


@blueprint.post("/quarantine/retry")
def retry() -> Response:
    """Store the rows in quarantine that fit by now: all, or those that the query names."""
    stored, refused = maintenance.retry_quarantined(_administered_store(), request.args.getlist("id") or None)
    return to_json({"stored": stored, "refused": refused})


@blueprint.delete("/quarantine")
def purge() -> Response:
    """Delete all rows in quarantine."""
    return to_json({"deleted": maintenance.release(_administered_store())})


def _site(text: str) -> str:
    """Return a site's UUID in lower case. Raises RequestError."""
    try:
        (site,) = site_uuids(text)
    except ValueError:
        raise RequestError("the site must be a UUID") from None
    return site


@blueprint.get("/check")
def check() -> Response:
    """Return how many rows that are derived from the hits differ from them."""
    return to_json(maintenance.check(_administered_store()))


@blueprint.post("/compact")
def compact() -> Response:
    """Compact the file."""
    store = _administered_store()
    maintenance.compact(store)
    return to_json(maintenance.info(store))
