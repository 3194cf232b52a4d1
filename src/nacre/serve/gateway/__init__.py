"""What every request passes before a route sees it: ids, limits, keys; and how errors are told."""
