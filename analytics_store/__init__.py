"""Store events and answer queries through Tinybird's interfaces, so that Ghost's dashboard needs no account."""
