"""Publish hits to Pub/Sub, and deliver them from there."""
