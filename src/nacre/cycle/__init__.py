"""Floor 4: the only place that knows the order of the ring."""
