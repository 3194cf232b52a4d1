"""What clients ask: one file a route."""
