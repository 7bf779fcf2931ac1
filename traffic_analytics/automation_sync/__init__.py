"""Forward the rows of Ghost's automations to Tinybird."""
