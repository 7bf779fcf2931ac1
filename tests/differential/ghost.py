"""Run the queries of Ghost's Tinybird project on embedded ClickHouse (chdb)."""

import json
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from chdb.session import Session
from jinja2 import Environment, StrictUndefined, Undefined

Event = dict[str, Any]
Row = dict[str, Any]

SETTINGS = "SETTINGS compatibility='24.8', output_format_json_quote_64bit_integers=0"
"""The settings of Tinybird's version of ClickHouse, and numbers as numbers."""
VIEWS = ("mv_hits", "mv_session_data_v2", "mv_automation_runs", "mv_automation_run_steps", "mv_pending_automation_runs")
"""Ghost's materialized views, each after those that it reads; mv_daily_pages serves pipes that Ghost does not use."""


def _text(value: object, default: object = None, **_: object) -> str:
    if isinstance(value, Undefined):
        value = default
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _number(value: object, default: int = 0, **_: object) -> str:
    return str(default if isinstance(value, Undefined) else int(str(value)))


def _list(value: object, _default: object = None, **_: object) -> str:
    return "[" + ", ".join(_text(part.strip()) for part in str(value).split(",")) + "]"


def _day_diff(first: str, last: str) -> int:
    return abs((datetime.fromisoformat(last) - datetime.fromisoformat(first)).days)


FUNCTIONS = {
    "String": _text,
    "Date": _text,
    "Int32": _number,
    "Array": _list,
    "defined": lambda value=None: not isinstance(value, Undefined),
    "day_diff": _day_diff,
}


def read_nodes(file: Path) -> dict[str, str]:
    """Read a .pipe file as its nodes' SQL by name, in their order."""
    parts = re.split(r"^NODE\s+(\S+)$", file.read_text(), flags=re.MULTILINE)[1:]
    nodes = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        sql = text.partition("SQL >")[2]
        nodes[name] = re.split(r"^(?:TYPE|DATASOURCE|TOKEN)\b", sql, flags=re.MULTILINE)[0].strip()
    return nodes


class Ghost:
    """The pipes of Ghost's Tinybird project, as SQL that tests may change, over a database in memory."""

    def __init__(self, project: Path) -> None:
        self.pipes = {file.stem: read_nodes(file) for file in sorted(project.glob("*/*.pipe"))}
        self._tables = [file.read_text() for file in sorted(project.glob("datasources/*.datasource"))]
        self._names = [file.stem for file in sorted(project.glob("datasources/*.datasource"))]
        self._session = Session()
        self._environment = Environment(undefined=StrictUndefined)
        self._environment.globals.update(FUNCTIONS)

    def replace(self, old: str, new: str, pipes: str = "") -> None:
        """Replace a text in the SQL of all pipes whose name matches an expression."""
        for name, nodes in self.pipes.items():
            if re.search(pipes, name):
                self.pipes[name] = {node: sql.replace(old, new) for node, sql in nodes.items()}

    def create(self) -> None:
        """Create the tables and views.

        Times are to the millisecond, where Ghost's are to the second, so that the first hit of a session is known.
        """
        seconds = "toUnixTimestamp(toDateTime(last_pageview)) - toUnixTimestamp(toDateTime(first_pageview))"
        self.replace("last_pageview - first_pageview", seconds)
        self.replace("max(timestamp) as last_seen", "toDateTime(max(timestamp)) as last_seen")
        self._session.query("CREATE DATABASE ghost ENGINE = Atomic")
        self._session.query("USE ghost")
        for name, text in zip(self._names, self._tables, strict=True):
            schema = re.sub(r"`json:[^`]*`", "", text.partition("SCHEMA >")[2].partition("ENGINE")[0])
            schema = re.sub(r"`timestamp` DateTime\b", "`timestamp` DateTime64(3, 'UTC')", schema)
            schema = schema.replace(", DateTime)", ", DateTime64(3, 'UTC'))")
            facts = dict(re.findall(r'^ENGINE_?(\w*)\s+"?([^"\n]+)"?', text, re.MULTILINE))
            version = f"({facts['VER']})" if "VER" in facts else ""
            engine = f"{facts['']}{version} ORDER BY ({facts['SORTING_KEY']})"
            self._session.query(f"CREATE TABLE {name} ({schema}) ENGINE = {engine}")
        targets = {name: f"_{name}" for name in VIEWS}
        for name in VIEWS:
            nodes = self.pipes[name]
            *earlier, last = nodes.items()
            sql = last[1]
            for node, inner in reversed(earlier):
                sql = re.sub(rf"\bFROM {node}\b", lambda _, i=inner, n=node: f"FROM ({i}) AS {n}", sql)  # type: ignore[misc]
            self._session.query(f"CREATE MATERIALIZED VIEW view_{name} TO {targets[name]} AS {sql}")

    def load(self, events: list[Event]) -> None:
        """Store page hits as Tinybird's events API would."""
        rows = [
            json.dumps({name: event[name] for name in ("timestamp", "session_id", "action", "version", "inserted_at")}
            | {"payload": json.dumps(event["payload"]), "site_uuid": event["payload"]["site_uuid"]})
            for event in events
        ]  # fmt: skip
        self._insert(
            rows,
            "timestamp String, session_id String, action String, version String, inserted_at String, payload String,"
            " site_uuid String",
            "INSERT INTO analytics_events (timestamp, session_id, action, version, payload, site_uuid, inserted_at)"
            " SELECT parseDateTime64BestEffort(timestamp, 3, 'UTC'), session_id, action, version, payload,"
            " site_uuid, parseDateTime64BestEffort(inserted_at, 3, 'UTC')",
        )

    def load_automation(self, name: str, events: list[Event]) -> None:
        """Store rows of Ghost's automations."""
        rows = [
            json.dumps({key: event.get(key) or "" for key in ("site_uuid", "id", "updated_at", "inserted_at")}
            | {"payload": json.dumps(event["payload"])})
            for event in events
        ]  # fmt: skip
        self._insert(
            rows,
            "site_uuid String, id String, updated_at String, inserted_at String, payload String",
            f"INSERT INTO {name} (site_uuid, id, updated_at, inserted_at, payload) SELECT toUUID(site_uuid), id,"
            " parseDateTime64BestEffort(updated_at, 3),"
            " if(inserted_at = '', now64(3), parseDateTime64BestEffort(inserted_at, 3)), payload",
        )

    def _insert(self, rows: list[str], columns: str, statement: str) -> None:
        """Run a statement that selects from rows of JSON."""
        with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
            file.write("\n".join(rows))
            file.flush()
            self._session.query(f"{statement} FROM file('{file.name}', 'JSONEachRow', '{columns}')")

    def ask(self, pipe: str, params: Mapping[str, str], now: datetime | None = None) -> list[Row]:
        """Return the rows of a pipe, as of a time if one is given."""
        nodes: dict[str, str] = {}
        last = self._add(pipe, params, nodes)
        sql = "WITH " + ",\n".join(f"{name} AS ({text})" for name, text in nodes.items()) + f"\nSELECT * FROM {last}"
        if now is not None:
            sql = re.sub(r"\bnow\(\)", f"toDateTime('{now:%Y-%m-%d %H:%M:%S}', 'UTC')", sql)
            sql = re.sub(r"\btoday\(\)", f"toDate('{now:%Y-%m-%d}')", sql)
        rows: list[Row] = json.loads(self._session.query(f"{sql} {SETTINGS}", "JSON").bytes())["data"]
        return rows

    def query(self, sql: str) -> list[Row]:
        """Return the rows of any statement."""
        rows: list[Row] = json.loads(self._session.query(f"{sql} {SETTINGS}", "JSON").bytes())["data"]
        return rows

    def _add(self, pipe: str, params: Mapping[str, str], into: dict[str, str]) -> str:
        """Add the nodes that a pipe needs, each with a name of its own; return the name of its last."""
        own = {node: f"{pipe}__{node}" for node in self.pipes[pipe]}
        for node, template in self.pipes[pipe].items():
            sql = re.sub(r"--[^\n]*", "", self._render(template, params))

            def rename(match: re.Match[str], node: str = node) -> str:
                word, name = match.groups()
                if name in own and name != node:
                    return f"{word} {own[name]}"
                return f"{word} {self._add(name, params, into)}" if name in self.pipes and name != pipe else match[0]

            into[own[node]] = re.sub(r"\b(from|join)\s+([a-z_0-9]+)", rename, sql, flags=re.IGNORECASE)
        return list(own.values())[-1]

    def _render(self, template: str, params: Mapping[str, str]) -> str:
        if not template.startswith("%"):
            return template
        # Tinybird's templates are close to Jinja's; every block that `end` closes is an `if`.
        text = template[1:].replace("{% end %}", "{% endif %}")
        return self._environment.from_string(text).render(params)
