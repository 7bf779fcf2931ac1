"""Serve the dashboard's pages, its files, and the tokens with which it queries pipes.

A Flask app of its own, mounted below `/dashboard`: no response of it allows another origin to read it. All URLs in it
are relative, since a proxy may have stripped a prefix.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError

from traffic_analytics.dashboard.sessions import SESSION_SECONDS, Visitor
from traffic_analytics.runtime.local_requests import has_passed_proxy, is_of_own_page, names_this_machine
from traffic_analytics.runtime.uuids import is_uuid
from traffic_analytics.wsgi import JSON, answer_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.dashboard.assets import Assets
    from traffic_analytics.dashboard.attempts import Attempts
    from traffic_analytics.dashboard.sessions import Sessions
    from traffic_analytics.dashboard.tokens import Tokens

COOKIE = "traffic_analytics_dashboard"
LONGEST_FORM = 4096
"""Size of the largest form, in bytes."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


def create_dashboard(
    assets: Assets,
    sessions: Sessions | None,
    attempts: Attempts,
    tokens: Tokens,
    health: Callable[[], object],
    *,
    sites: list[str],
    clock: Callable[[], float],
) -> Flask:
    """Return the app. Without `sessions` it serves requests of this machine only, and needs no login.

    `sites` are the sites of ALLOWED_SITES, for a target that cannot list those with hits.
    """
    app = Flask("traffic_analytics.dashboard", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LONGEST_FORM
    app.url_map.strict_slashes = app.url_map.merge_slashes = False

    def operator() -> Visitor | None:
        if sessions is None:
            return Visitor(math.inf)
        return sessions.read_session(request.cookies.get(COOKIE, ""), clock())

    def require_operator() -> Visitor:
        return operator() or abort(HTTPStatus.UNAUTHORIZED)

    def require_share(link: str) -> Visitor:
        visitor = sessions and sessions.read_share(link, clock())
        return visitor or abort(HTTPStatus.NOT_FOUND, "The link is not valid, or it has expired. Ask for a new one.")

    def page(root: str = "") -> Response:
        files = f"{root}static/{assets.version}/"
        return Response(
            render_template(
                "dashboard.html", root=root, files=files, modules=assets.modules, can_log_out=bool(sessions)
            )
        )

    def login_page(problem: str = "", status: int = HTTPStatus.OK) -> Response:
        return Response(render_template("login.html", files=f"static/{assets.version}/", problem=problem), status)

    def token(visitor: Visitor) -> Response:
        site = request.args.get("site", visitor.site)
        if site is not None and not is_uuid(site):
            abort(HTTPStatus.BAD_REQUEST)
        if visitor.site not in {None, site}:
            abort(HTTPStatus.FORBIDDEN)
        signed = tokens.sign(site, visitor, clock())
        return jsonify(
            token=signed.text,
            seconds=signed.seconds,
            site=visitor.site,
            sites=[] if visitor.site else sites,
        )

    @app.before_request
    def check_origin() -> None:
        headers = dict(request.headers)
        if sessions is None and not (
            names_this_machine(request.headers.get("Host", ""), request.environ.get("RAW_URI", "/"))
            and is_of_own_page(headers)
            and not has_passed_proxy(headers)
        ):
            abort(HTTPStatus.FORBIDDEN, "Without DASHBOARD_KEY the dashboard serves this machine only.")
        if request.method == "POST" and not is_of_own_page(headers):
            abort(HTTPStatus.FORBIDDEN, "A page of another host may not log in or out.")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(Exception)
    def explain(error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            answer_to(error)  # logs it
            error = InternalServerError()
        status, title, advice = error.code or 500, error.name, error.description or ""
        if request.path.endswith(".json"):
            return Response(json.dumps({"error": advice}), status, content_type=JSON)
        files = f"{'../' * request.path.count('/', 1)}static/{assets.version}/"
        return Response(render_template("notice.html", files=files, title=title, advice=advice), status)

    @app.get("/")
    def show() -> Response:
        if not request.environ.get("PATH_INFO"):
            return _see_other("dashboard/")
        return page() if operator() else login_page()

    @app.get("/login")
    def show_login() -> Response:
        return _see_other("./")

    @app.post("/login")
    def log_in() -> Response:
        if sessions is None:
            return _see_other("./")
        if wait := attempts.wait():
            response = login_page("Too many wrong keys. Try again in a minute.", HTTPStatus.TOO_MANY_REQUESTS)
            response.headers["Retry-After"] = str(math.ceil(wait))
            return response
        if not sessions.is_access_key(request.form.get("key", "")):
            attempts.note_failure()
            return login_page("This is not the key.", HTTPStatus.UNAUTHORIZED)
        response = _see_other("./")
        _set_cookie(response, sessions.sign_session(clock()), SESSION_SECONDS)
        return response

    @app.post("/logout")
    def log_out() -> Response:
        response = _see_other("./")
        _set_cookie(response, "", 0)
        return response

    @app.get("/session.json")
    def show_session() -> Response:
        return jsonify(isLoggedIn=operator() is not None)

    @app.get("/token.json")
    def operator_token() -> Response:
        return token(require_operator())

    @app.get("/health.json")
    def show_health() -> Response:
        require_operator()
        return jsonify(health())

    @app.get("/share/<link>/")
    def show_share(link: str) -> Response:
        require_share(link)
        if not request.path.endswith("/"):
            return _see_other(f"{link}/")
        return page("../../")

    @app.get("/share/<link>/token.json")
    def share_token(link: str) -> Response:
        return token(require_share(link))

    @app.get("/static/<version>/<path:name>")
    def show_file(version: str, name: str) -> Response:
        asset = assets.files.get(name) or abort(HTTPStatus.NOT_FOUND)
        is_current = version == assets.version
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-store",
            "Vary": "Accept-Encoding",
        }
        if not request.accept_encodings.quality("gzip"):
            return Response(asset.content, headers=headers, content_type=asset.content_type)
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, headers=headers, content_type=asset.content_type)

    return app


def _see_other(location: str) -> Response:
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": location})


def _set_cookie(response: Response, value: str, seconds: int) -> None:
    """Set the session's cookie without a path: browsers then limit it to the dashboard's own, below any prefix."""
    is_secure = request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    response.set_cookie(COOKIE, value, max_age=seconds, path=None, secure=is_secure, httponly=True, samesite="Strict")
