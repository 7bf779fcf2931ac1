"""Check and enrich one page hit, from bytes to event."""
