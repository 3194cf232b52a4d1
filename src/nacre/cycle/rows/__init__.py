"""Rows on their way in and out: harvested, drafted, compared, forgotten."""
