"""Count and trace what other parts do; none of them knows of it."""
