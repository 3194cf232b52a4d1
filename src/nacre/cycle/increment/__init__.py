"""One increment, from its rows to a judged version."""
