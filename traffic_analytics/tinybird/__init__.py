"""Speak Tinybird's interfaces: events, pipes, tokens."""
