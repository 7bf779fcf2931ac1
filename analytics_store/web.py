"""Requests come in, answers go out, and every error has its status in one table."""

import logging
import time
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException

from analytics_store import errors, events
from analytics_store.logs import say
from analytics_store.store import Store
from traffic_analytics.tinybird.jwt import extract_token

blueprint = Blueprint("store", __name__)

# Tinybird's limits: what is sent on the free plan, what it may unpack to on the paid ones.
MOST_BYTES = 10_000_000
MOST_BYTES_UNPACKED = 100_000_000

STATUSES: dict[type[errors.StoreError], HTTPStatus] = {
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.RequestError: HTTPStatus.BAD_REQUEST,
    errors.ParameterError: HTTPStatus.BAD_REQUEST,
    errors.DataSourceError: HTTPStatus.BAD_REQUEST,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.UnknownPipeError: HTTPStatus.NOT_FOUND,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.OverMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
CLICKHOUSE_TYPES = {
    "VARCHAR": "String",
    "BIGINT": "Int64",
    "HUGEINT": "Int128",
    "INTEGER": "Int32",
    "DOUBLE": "Float64",
    "BOOLEAN": "Bool",
    "DATE": "Date",
    "TIMESTAMP": "DateTime64(6)",
}
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "Authorization, Content-Type, Origin, X-Requested-With, Accept, x-site-uuid",
    "access-control-max-age": "86400",
}


def store() -> Store:
    """Tell the store of this app."""
    found: Store = current_app.extensions["store"]
    return found


def token() -> str | None:
    """Tell the token of this request: the header's, else the query's."""
    return extract_token(request.headers.get("Authorization"), request.args.get("token"))


@blueprint.get("/")
def hello() -> Response:
    """Tell a load balancer that somebody is here."""
    return Response("Hello from the analytics store", mimetype="text/plain")


@blueprint.get("/health")
def health() -> Response:
    """Tell whether the database answers."""
    store().database.ask("SELECT 1", {})
    return answer_json({"status": "ok"})


@blueprint.post("/v0/events")
def post_events() -> Response:
    """Keep rows of a data source; the answer comes after the commit, whatever `wait` says."""
    here = store()
    if not here.tokens.access(token(), here.clock()).append:
        raise errors.ForbiddenError("the token does not grant appending")
    name = request.args.get("name", "")
    if name not in events.DATA_SOURCES:
        raise errors.DataSourceError("there is no data source of this name")
    fit, unfit = here.hits.append(events.parse(name, _body()))
    if unfit:
        say(logging.WARNING, "store.rows_quarantined", data_source=name, rows=unfit)
    status = HTTPStatus.OK if request.args.get("wait") in {"true", "1"} else HTTPStatus.ACCEPTED
    return answer_json({"successful_rows": fit, "quarantined_rows": unfit}, status)


@blueprint.route("/v0/pipes/<name>.json", methods=["GET", "POST"])
def ask_pipe(name: str) -> Response:
    """Answer a statistics question."""
    here = store()
    fixed = here.tokens.access(token(), here.clock()).fixed_params(name)
    started = time.perf_counter()
    answer = here.ask(name, _parameters() | fixed)
    elapsed = time.perf_counter() - started
    names = [column for column, _ in answer.columns]
    return answer_json(
        {
            "meta": [{"name": column, "type": CLICKHOUSE_TYPES.get(kind, kind)} for column, kind in answer.columns],
            "data": [dict(zip(names, row, strict=True)) for row in answer.rows],
            "rows": len(answer.rows),
            "rows_before_limit_at_least": len(answer.rows),
            "statistics": {"elapsed": elapsed, "rows_read": answer.rows_read, "bytes_read": answer.bytes_read},
        }
    )


@blueprint.app_errorhandler(errors.StoreError)
def refuse(error: errors.StoreError) -> Response:
    """Say what went wrong, with its status."""
    status = STATUSES[type(error)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        say(logging.ERROR, "store.request_failed", reason=str(error), endpoint=request.endpoint)
    return answer_json({"error": str(error)}, status)


@blueprint.app_errorhandler(HTTPException)
def refuse_http(error: HTTPException) -> Response:
    """Say what the framework refused, as JSON too."""
    code = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cause = getattr(error, "original_exception", None)
        say(logging.ERROR, "store.request_crashed", error=type(cause).__name__, endpoint=request.endpoint)
    return answer_json({"error": error.name}, code)


@blueprint.before_app_request
def preflight() -> Response | None:
    """Let browsers ask from any page: it is the token that decides, and no cookie is ever read."""
    return Response(status=HTTPStatus.NO_CONTENT) if request.method == "OPTIONS" else None


@blueprint.after_app_request
def allow_origins(response: Response) -> Response:
    """Put the CORS headers on every answer, or the browser hides errors from the page."""
    response.headers.update(CORS)
    return response


def answer_json(content: object, status: int = HTTPStatus.OK) -> Response:
    """Build a JSON answer."""
    return Response(msgspec.json.encode(content), status, mimetype="application/json")


def _body() -> bytes:
    body = request.get_data()
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise errors.RequestError("Content-Encoding must be gzip or absent")
    return _unpack(body)


def _unpack(body: bytes) -> bytes:
    unpacked, rest = bytearray(), body
    try:
        while rest:
            gzip = zlib.decompressobj(wbits=31)
            unpacked += gzip.decompress(rest, MOST_BYTES_UNPACKED + 1 - len(unpacked))
            if len(unpacked) > MOST_BYTES_UNPACKED:
                raise errors.TooLargeError(f"the body unpacks to more than {MOST_BYTES_UNPACKED} bytes")
            if not gzip.eof:
                raise errors.RequestError("the gzip stream ends too early")
            rest = gzip.unused_data
    except zlib.error:
        raise errors.RequestError("the body is not gzip") from None
    return bytes(unpacked)


def _parameters() -> dict[str, str]:
    """Collect the request's own parameters; the query outranks the body, and the first of equal names counts."""
    values: dict[str, str] = {}
    if request.method == "POST":
        values |= _json_parameters(request.get_data()) if request.is_json else request.form.to_dict()
    return values | request.args.to_dict()


def _json_parameters(body: bytes) -> dict[str, str]:
    try:
        given: Any = msgspec.json.decode(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise errors.RequestError("the body is not valid JSON") from None
    if not isinstance(given, Mapping):
        raise errors.RequestError("the body must be a JSON object of parameters")
    return {name: _parameter(name, value) for name, value in given.items() if value is not None}


def _parameter(name: str, value: object) -> str:
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return ",".join(_parameter(name, part) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise errors.ParameterError(name, "must be a text, a number or a list of them")
