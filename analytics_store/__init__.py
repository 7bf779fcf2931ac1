"""A small store that speaks Tinybird's interfaces, so that Ghost's dashboard needs no account with a third party."""
