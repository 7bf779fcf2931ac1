"""A web-analytics service for Ghost: page hits in, enriched events to Tinybird, nothing lost and nobody traceable."""

__version__ = "0.1.0"
