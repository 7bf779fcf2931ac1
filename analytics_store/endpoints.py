"""List the pipes: the reader of its parameters and the SQL of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from analytics_store import parameters
from analytics_store.database import Database, Result, read_sql
from analytics_store.errors import UnknownPipeError

# Definitions that several statements share are put in front of each: hits and sessions that meet the filters of a web
# endpoint, and the version of an automation's row that counts.
WEB = "pipes/_web.sql"
AUTOMATIONS = "pipes/_automations.sql"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pipe, with the file of definitions that it shares with others."""

    name: str
    read: parameters.Reader
    shared: str | None = None
    # Columns that a response holds only if the request names them.
    on_request: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """Return the whole statement."""
        own = read_sql(f"pipes/{self.name}.sql")
        return read_sql(self.shared) + own if self.shared else own


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("api_kpis", parameters.kpis, shared=WEB),
        Endpoint("api_top_pages", parameters.top_pages, shared=WEB),
        Endpoint("api_top_sources", parameters.top, shared=WEB),
        Endpoint("api_top_devices", parameters.top, shared=WEB),
        Endpoint("api_top_utm_sources", parameters.top, shared=WEB),
        Endpoint("api_top_utm_mediums", parameters.top, shared=WEB),
        Endpoint("api_top_utm_campaigns", parameters.top, shared=WEB),
        Endpoint("api_top_utm_terms", parameters.top, shared=WEB),
        Endpoint("api_top_utm_contents", parameters.top, shared=WEB),
        Endpoint("api_top_locations", parameters.top, shared=WEB),
        Endpoint("api_top_browsers", parameters.top, shared=WEB),
        Endpoint("api_top_os", parameters.top, shared=WEB),
        Endpoint("api_active_visitors", parameters.active_visitors),
        Endpoint("api_post_visitor_counts", parameters.post_visitor_counts),
        Endpoint("api_gift_link_visits", parameters.gift_link_visits),
        Endpoint("api_monitoring_ingestion", parameters.monitoring, on_request=frozenset({"site_uuid"})),
        Endpoint("api_monitoring_ingestion_aggregated", parameters.monitoring, on_request=frozenset({"site_uuid"})),
        Endpoint("api_automation_browse_stats", parameters.site, shared=AUTOMATIONS),
    )
}


def find(name: str) -> Endpoint:
    """Return the endpoint of a pipe, by its name with or without the version; both give the same response."""
    try:
        return ENDPOINTS[name.removesuffix("_v2")]
    except KeyError:
        raise UnknownPipeError("there is no such pipe") from None


def run(endpoint: Endpoint, database: Database, args: Mapping[str, str], now: datetime) -> Result:
    """Run one query, as of `now` (UTC without a zone)."""
    result = database.query(endpoint.sql, endpoint.read(args, now))
    hidden = endpoint.on_request - args.keys()
    places = [place for place, (name, _) in enumerate(result.columns) if name not in hidden]
    if len(places) == len(result.columns):
        return result
    columns = [result.columns[place] for place in places]
    return replace(result, columns=columns, rows=[tuple(row[place] for place in places) for row in result.rows])
