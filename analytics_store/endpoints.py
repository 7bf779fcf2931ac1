"""Every statistics endpoint by name: how its parameters are read, and the SQL that answers it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from analytics_store import parameters
from analytics_store.database import Answer, Database, statement
from analytics_store.errors import UnknownPipeError

# What several statements go by is said once, in front of each: what hits and sessions a web endpoint's filters want,
# and which version of an automation's row counts.
WEB = "pipes/_web.sql"
AUTOMATIONS = "pipes/_automations.sql"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pipe, and the definitions that it shares with others."""

    name: str
    read: parameters.Reader
    shared: str | None = None
    # Columns that an answer holds only if the request names them.
    on_request: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """The whole statement."""
        own = statement(f"pipes/{self.name}.sql")
        return statement(self.shared) + own if self.shared else own


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


def plain_name(name: str) -> str:
    """Tell a pipe's name without its version; both versions answer the same."""
    return name.removesuffix("_v2")


def find(name: str) -> Endpoint:
    """Find an endpoint by either of its names."""
    try:
        return ENDPOINTS[plain_name(name)]
    except KeyError:
        raise UnknownPipeError("there is no such pipe") from None


def run(endpoint: Endpoint, database: Database, args: Mapping[str, str], now: datetime) -> Answer:
    """Answer one question, as of `now` (UTC without a zone)."""
    answer = database.ask(endpoint.sql, endpoint.read(args, now))
    unasked = endpoint.on_request - args.keys()
    kept = [place for place, (name, _) in enumerate(answer.columns) if name not in unasked]
    if len(kept) == len(answer.columns):
        return answer
    columns = [answer.columns[place] for place in kept]
    return replace(answer, columns=columns, rows=[tuple(row[place] for place in kept) for row in answer.rows])
