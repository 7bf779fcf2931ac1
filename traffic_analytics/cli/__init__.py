"""Offer the operator's commands: `check`, `doctor` and `spool …`."""

from traffic_analytics.cli.commands import register

__all__ = ["register"]
