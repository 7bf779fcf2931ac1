"""Receive page hits of Ghost sites, enrich them and deliver the events to Tinybird."""

__version__ = "0.1.0"
