"""List the pipes, with the reader of the parameters of each."""

from collections.abc import Mapping
from datetime import datetime

from analytics_store import parameters
from analytics_store.errors import UnknownPipeError

VERSION = "_v2"
"""End of the names of Ghost's pipes that count sessions as a whole."""

ENDPOINTS: dict[str, parameters.Reader] = {
    "api_kpis": parameters.kpis,
    "api_top_pages": parameters.top_pages,
    "api_top_sources": parameters.top,
    "api_top_devices": parameters.top,
    "api_top_utm_sources": parameters.top,
    "api_top_utm_mediums": parameters.top,
    "api_top_utm_campaigns": parameters.top,
    "api_top_utm_terms": parameters.top,
    "api_top_utm_contents": parameters.top,
    "api_top_locations": parameters.top,
    "api_top_browsers": parameters.top,
    "api_top_os": parameters.top,
    "api_active_visitors": parameters.active_visitors,
    "api_post_visitor_counts": parameters.post_visitor_counts,
    "api_gift_link_visits": parameters.gift_link_visits,
    "api_monitoring_ingestion": parameters.monitoring,
    "api_monitoring_ingestion_aggregated": parameters.monitoring,
    "api_sites": parameters.sites,
    "api_automation_browse_stats": parameters.site,
}


def read(name: str, args: Mapping[str, str], now: datetime) -> tuple[str, parameters.Values]:
    """Return the pipe of a name with or without the version, and the values of a query as of `now` (UTC, no zone)."""
    pipe = name.removesuffix(VERSION)
    if pipe not in ENDPOINTS:
        raise UnknownPipeError("there is no such pipe")
    values = ENDPOINTS[pipe](args, now)
    return pipe, values | parameters.WHOLE_SESSIONS if name.endswith(VERSION) else values
