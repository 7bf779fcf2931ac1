"""List the pipes, and the reader of the parameters of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from analytics_store import parameters
from analytics_store.engine import Engine, Result
from analytics_store.errors import UnknownPipeError

VERSION = "_v2"
"""End of the names of Ghost's pipes that count sessions as a whole."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pipe."""

    name: str
    read: parameters.Reader
    # A session is all of its hits, also those outside the days of the query, and counts only where it began.
    whole_sessions: bool = False


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("api_kpis", parameters.kpis),
        Endpoint("api_top_pages", parameters.top_pages),
        Endpoint("api_top_sources", parameters.top),
        Endpoint("api_top_devices", parameters.top),
        Endpoint("api_top_utm_sources", parameters.top),
        Endpoint("api_top_utm_mediums", parameters.top),
        Endpoint("api_top_utm_campaigns", parameters.top),
        Endpoint("api_top_utm_terms", parameters.top),
        Endpoint("api_top_utm_contents", parameters.top),
        Endpoint("api_top_locations", parameters.top),
        Endpoint("api_top_browsers", parameters.top),
        Endpoint("api_top_os", parameters.top),
        Endpoint("api_active_visitors", parameters.active_visitors),
        Endpoint("api_post_visitor_counts", parameters.post_visitor_counts),
        Endpoint("api_gift_link_visits", parameters.gift_link_visits),
        Endpoint("api_monitoring_ingestion", parameters.monitoring),
        Endpoint("api_monitoring_ingestion_aggregated", parameters.monitoring),
        Endpoint("api_sites", parameters.sites),
        Endpoint("api_automation_browse_stats", parameters.site),
    )
}


def find(name: str) -> Endpoint:
    """Return the endpoint of a pipe, by its name with or without the version; with `_v2` sessions are whole."""
    try:
        endpoint = ENDPOINTS[name.removesuffix(VERSION)]
    except KeyError:
        raise UnknownPipeError("there is no such pipe") from None
    return replace(endpoint, whole_sessions=name.endswith(VERSION))


def run(endpoint: Endpoint, engine: Engine, args: Mapping[str, str], now: datetime) -> Result:
    """Run one query, as of `now` (UTC without a zone)."""
    values = endpoint.read(args, now)
    if endpoint.whole_sessions:
        values |= parameters.WHOLE_SESSIONS
    return engine.ask(endpoint.name, values)
