"""Set up an installation: secrets, `.env`, units, compose override, location blocks, Ghost's configuration."""
