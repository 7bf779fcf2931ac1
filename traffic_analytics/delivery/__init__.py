"""Deliver accepted events to their target."""
