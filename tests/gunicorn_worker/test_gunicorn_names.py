"""Hold gunicorn to the undocumented names that the worker uses; pyproject.toml caps its version."""

from __future__ import annotations

import ast
import inspect
import logging
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config
from gunicorn.http import errors, message, wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader, Unreader
from gunicorn.workers.base import Worker

from tests.support.processes import ROOT
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIGURATIONS = sorted([ROOT / "gunicorn.conf.py", *ROOT.glob("*/gunicorn.conf.py")])


@pytest.mark.parametrize(
    ("called", "signature"),
    [
        (Worker.init_process, "(self)"),
        (Worker.init_signals, "(self)"),
        (Worker.run, "(self)"),
        (Worker.notify, "(self)"),
        (Worker.load_wsgi, "(self)"),
        (Worker.handle_exit, "(self, sig, frame)"),
        (Request, "(cfg, unreader, peer_addr, req_number=1)"),
        (Request.force_close, "(self)"),
        (Unreader.read, "(self, size=None, read_ahead=None)"),  # the parser calls these of the worker's own reader
        (Unreader.unread, "(self, data)"),
        (wsgi.create, "(req, sock, client, server, cfg, response_class=None, response_args=())"),
        (errors.LimitRequestLine, "(size, max_size=None)"),
        (errors.LimitRequestHeaders, "(msg)"),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_a_name_of_gunicorn_that_the_worker_uses_keeps_its_signature(
    called: Callable[..., Any], signature: str
) -> None:
    assert str(inspect.signature(called)) == signature


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.NoMoreData, OSError),
        (errors.LimitRequestLine, errors.ParseException),
        (errors.LimitRequestHeaders, errors.ParseException),
        (errors.ExpectationFailed, errors.ParseException),
        (errors.UnsupportedTransferCoding, errors.ParseException),
    ],
)
def test_an_error_of_the_parser_keeps_its_base(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)


def test_a_request_has_the_attributes_that_are_used() -> None:
    request = Request(Config(), IterUnreader([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]), ("192.0.2.1", 1))

    assert (request.must_close, request.body.read()) == (False, b"")


def test_the_c_parser_has_the_names_that_are_used() -> None:
    parser = pytest.importorskip("gunicorn_h1c")
    limits = {"limit_request_line": 20, "limit_request_fields": 1, "limit_request_field_size": 10}

    parsed = parser.parse_request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nnext", **limits)

    assert (parsed["method"], parsed["path"], parsed["minor_version"]) == (b"GET", b"/", 1)
    assert (parsed["headers"], parsed["consumed"]) == ([(b"Host", b"x")], 27)
    with pytest.raises(parser.IncompleteError):
        parser.parse_request(b"GET / HTTP/1.1\r\n", **limits)
    for head in (
        b"GET /too-long HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nA: x\r\nB: y\r\n",
        b"GET / HTTP/1.1\r\nA: 12345678\r\n",
    ):
        with pytest.raises(parser.ParseError):
            parser.parse_request(head + b"\r\n", **limits)
    assert message.MAX_HEADERS > 0


def test_a_worker_has_the_attributes_that_are_used() -> None:
    config = Config()

    worker = Worker(1, 2, [], None, 30, config, logging.getLogger())

    worker.tmp.close()
    assert (worker.ppid, worker.sockets, worker.alive, worker.cfg) == (2, [], True, config)
    assert {"is_ssl", "forwarded_allow_networks"} <= set(dir(config))
    assert config.settings["keepalive"].get() == config.keepalive


@pytest.mark.parametrize("parser", ["python", "fast"])
def test_a_request_line_may_be_as_long_as_the_constant_of_gunicorn_says(
    parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parser == "fast":
        pytest.importorskip("gunicorn_h1c")
    config = Config()
    config.set("http_parser", parser)
    config.set("limit_request_line", PARAMETERS_LIMIT)
    monkeypatch.setattr(message, "MAX_REQUEST_LINE", PARAMETERS_LIMIT)

    def parse(length: int) -> Any:
        path = b"/" + b"x" * (length - len(b"GET / HTTP/1.1"))
        return Request(config, IterUnreader([b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n"]), ("", 0))

    assert len(parse(PARAMETERS_LIMIT - 2).path) > PARAMETERS_LIMIT - 20
    with pytest.raises(errors.LimitRequestLine):
        parse(PARAMETERS_LIMIT + 1)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_of_a_gunicorn_configuration_exists(path: Path) -> None:
    """gunicorn ignores unknown names, so a renamed setting would fall back to its default."""
    names = {
        name
        for node in ast.parse(path.read_text()).body
        for block in ([node, *node.body] if isinstance(node, ast.If) else [node])
        for name in defined_names(block)
    }

    assert names
    assert {name for name in names if not name.startswith("_")} - {"settings"} <= set(Config().settings)


def defined_names(node: ast.stmt) -> list[str]:
    """List the names that a statement assigns or defines."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    return [each.id for each in node.targets if isinstance(each, ast.Name)] if isinstance(node, ast.Assign) else []
