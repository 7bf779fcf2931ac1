"""Count each hit once, by its outcome and the rule that decided it."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from traffic_analytics import errors
from traffic_analytics.hits.page_hit import Body
from traffic_analytics.observability.metric_wrappers import OTHER, by_data_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Counter

    from traffic_analytics.observability.metrics import Metrics


def _body_places(struct_type: type[msgspec.Struct], place: str) -> Iterator[str]:
    yield place
    for field in msgspec.structs.fields(struct_type):
        if msgspec.Raw in get_args(field.type):  # any JSON is valid
            continue
        inner = f"{place}.{field.encode_name}"
        yield inner
        for each in (field.type, *get_args(field.type)):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield from _body_places(each, inner)


PLACES = frozenset(
    {
        "headers.content-length",
        "headers.x-site-uuid",
        "headers.user-agent",
        "query.name",
        "query.token",
        *_body_places(Body, "body"),
    }
)
"""Parts of a hit that can be invalid."""

ERRORS: dict[type[errors.AnalyticsError], tuple[str, str]] = {
    errors.UnsignedUrl: ("unsigned", ""),
    errors.BodyTooLarge: ("refused", "too_large"),
    errors.UnsupportedMediaType: ("refused", "media_type"),
    errors.SiteNotAllowed: ("refused", "site"),
    errors.TooManyNewSites: ("refused", "new_site"),
    errors.SaltUnavailable: ("unavailable", "salt"),
    errors.SpoolUnavailable: ("unavailable", "spool"),
    errors.UpstreamFailed: ("failed", "upstream"),
}
"""Outcome and rule of each error. Any other error is a defect."""


class HitCounter:
    """Count hits; an `OnOutcome` of hits.endpoint."""

    def __init__(self, metrics: Metrics) -> None:
        self._accepted = metrics.hits.labels("accepted", "")
        self._spooled = by_data_source(metrics.spooled.labels)
        self._bot = metrics.hits.labels("bot", "")
        self._invalid = {place: metrics.hits.labels("invalid", place) for place in (*PLACES, OTHER)}
        self._errors: dict[type[Exception], Counter] = {
            error: metrics.hits.labels(outcome, rule) for error, (outcome, rule) in ERRORS.items()
        }
        self._defect = metrics.hits.labels("failed", "defect")

    def __call__(self, outcome: str, data_source: str = "", error: Exception | None = None) -> None:
        """Count one hit. A spooled event counts as accepted, too."""
        if error is not None:
            self._error_counter(error).inc()
        elif outcome == "bot":
            self._bot.inc()
        else:
            if outcome == "spooled":
                (self._spooled.get(data_source) or self._spooled[OTHER]).inc()
            self._accepted.inc()

    def _error_counter(self, error: Exception) -> Counter:
        if isinstance(error, errors.InvalidHit):
            return self._invalid.get(error.place) or self._invalid[OTHER]
        return self._errors.get(type(error), self._defect)
