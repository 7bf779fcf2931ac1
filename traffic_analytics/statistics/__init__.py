"""Answer Ghost's dashboard from a target, through a cache."""
