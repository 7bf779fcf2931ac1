"""Build the app from its settings; the only package that imports all others."""

from traffic_analytics.wiring.service import create_app

__all__ = ["create_app"]
