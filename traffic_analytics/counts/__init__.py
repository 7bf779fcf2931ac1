"""Count hits by site, outcome and rule, all worker processes together, for `stats`."""
