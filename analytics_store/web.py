"""Serve Tinybird's routes for events and pipes, and map every error to its status."""

import logging
import time
from functools import partial
from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from analytics_store import bodies, errors, events
from analytics_store.local_requests import require_local
from analytics_store.store import Store
from traffic_analytics import __version__
from traffic_analytics.errors import AnalyticsError, DamagedFile
from traffic_analytics.runtime.cors import ALLOW_ORIGIN, REQUESTED_HEADERS, preflight_headers
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT, read_json
from traffic_analytics.tinybird.jwt import extract_token

_log = logging.getLogger(__name__)

blueprint = Blueprint("store", __name__)

STATUSES: dict[type[AnalyticsError], HTTPStatus] = {
    errors.RequestError: HTTPStatus.BAD_REQUEST,
    errors.ParameterError: HTTPStatus.BAD_REQUEST,
    errors.DataSourceError: HTTPStatus.BAD_REQUEST,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.UnknownPipeError: HTTPStatus.NOT_FOUND,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.OverMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FullError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.RefusedRowsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    DamagedFile: HTTPStatus.SERVICE_UNAVAILABLE,
}


def get_store() -> Store:
    """Return the store of this app."""
    store: Store = current_app.extensions["store"]
    return store


def get_token() -> str | None:
    """Return the request's token: the header's, else the query's."""
    return extract_token(request.headers.get("Authorization"), request.args.get("token"))


def read_body() -> bytes:
    """Read the request's body at once: with werkzeug's small reads gunicorn copies a long body several times."""
    size = request.content_length or bodies.CHUNK_BYTES
    return b"".join(iter(partial(request.stream.read, size), b""))


@blueprint.get("/")
def hello() -> Response:
    """Respond to the probe of a load balancer."""
    return Response("Hello from the analytics store", mimetype="text/plain")


@blueprint.get("/health")
def health() -> Response:
    """Return 200 if the database can be queried."""
    get_store().engine.ping()
    return to_json({"status": "ok", "version": __version__})


@blueprint.post("/v0/events")
def post_events() -> Response:
    """Store rows of a data source; with `wait` the response comes when they can be queried."""
    store = get_store()
    if not store.tokens.access(get_token(), store.clock()).append:
        raise errors.ForbiddenError("the token does not grant appending")
    name = request.args.get("name", "")
    events.require_data_source(name)
    accepted = quarantined = 0
    for lines in bodies.read_pieces(read_body(), request.headers.get("Content-Encoding", "")):
        counts = store.hits.append(name, lines)
        accepted, quarantined = accepted + counts[0], quarantined + counts[1]
    if not accepted + quarantined:
        raise errors.RequestError("the body holds no event")
    if quarantined:
        facts = {"data_source": name, "rows": quarantined}
        _log.warning("rows were quarantined", extra={"event": "RowsQuarantined", **facts})
    counts_of_rows = {"successful_rows": accepted, "quarantined_rows": quarantined}
    if request.args.get("wait") in {"true", "1"}:
        store.hits.apply()
        return to_json(counts_of_rows)
    return to_json(counts_of_rows, HTTPStatus.ACCEPTED)


@blueprint.route("/v0/pipes/<name>.json", methods=["GET", "POST"])
def query_pipe(name: str) -> Response:
    """Return the rows of a pipe."""
    store = get_store()
    fixed = store.tokens.access(get_token(), store.clock()).fixed_params(name)
    started = time.perf_counter()
    result = store.query(name, _parameters() | fixed)
    elapsed = time.perf_counter() - started
    names = [column for column, _ in result.columns]
    return to_json(
        {
            "meta": [{"name": column, "type": kind} for column, kind in result.columns],
            "data": [dict(zip(names, row, strict=True)) for row in result.rows],
            "rows": len(result.rows),
            "rows_before_limit_at_least": len(result.rows),
            "statistics": {"elapsed": elapsed, "rows_read": result.rows_read, "bytes_read": result.bytes_read},
        }
    )


@blueprint.app_errorhandler(errors.StoreError)
@blueprint.app_errorhandler(DamagedFile)
def refuse(error: AnalyticsError) -> Response:
    """Return the message of an error of the store, with its status."""
    status = STATUSES[type(error)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("a request failed: %s", error, extra={"event": "RequestFailed", "endpoint": request.endpoint})
    return to_json({"error": str(error)}, status)


@blueprint.app_errorhandler(HTTPException)
def refuse_http(error: HTTPException) -> Response:
    """Return an error of the framework as JSON, and log a defect of the store."""
    if isinstance(error, RequestEntityTooLarge):
        return to_json({"error": f"the body is longer than {bodies.BODY_LIMIT} bytes; split it"}, error.code)
    code = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cause = getattr(error, "original_exception", None) or error
        extra = {"event": "UnhandledError", "endpoint": request.endpoint}
        _log.error("a defect of the store", exc_info=cause, extra=extra)
    return to_json({"error": error.name}, code)


@blueprint.before_app_request
def preflight() -> Response | None:
    """Allow requests from any page if access depends on a token, as no cookie is read; else only from this machine."""
    if get_store().settings.open_to_all:
        require_local(request)
    return Response(status=HTTPStatus.NO_CONTENT) if request.method == "OPTIONS" else None


@blueprint.after_app_request
def allow_origins(response: Response) -> Response:
    """Add the CORS headers to every response if tokens are set; without them a browser hides errors from the page."""
    if get_store().settings.open_to_all:
        return response
    response.headers.update((ALLOW_ORIGIN, *preflight_headers(request.headers.get(REQUESTED_HEADERS)).items()))
    return response


def to_json(content: object, status: int = HTTPStatus.OK) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(content), status, mimetype="application/json")


def _parameters() -> dict[str, str]:
    """Return the request's parameters; the query string outranks the body, and the first of equal names counts."""
    values: dict[str, str] = {}
    if request.method == "POST":
        request.max_content_length = PARAMETERS_LIMIT
        try:
            values |= read_json(request.get_data()) if request.is_json else request.form.to_dict()
        except ValueError as error:
            raise errors.RequestError(f"body: {error}") from None
    return values | request.args.to_dict()
