"""Find Ghost's script of the statistics in a page, and where it posts hits."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

NAME = "ghost-stats"
"""Part of the script's file name: `ghost-stats.min.js`."""


@dataclass(frozen=True, slots=True)
class TrackerScript:
    """The attributes of the script tag that Ghost prints."""

    source: str
    host: str
    data_source: str
    token: str
    site_uuid: str


def find_tracker_script(html: str) -> TrackerScript | None:
    """Return the first tag of the script, or None if the page has none."""
    parser = _Parser()
    parser.feed(html)
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: TrackerScript | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "script" and self.found is None and NAME in attributes.get("src", ""):
            self.found = TrackerScript(
                attributes["src"],
                attributes.get("data-host", ""),
                attributes.get("data-datasource") or "analytics_events",
                attributes.get("data-token", ""),
                attributes.get("tb_site_uuid", ""),
            )
