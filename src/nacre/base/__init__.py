"""Floor 0: errors, config, plugin tables, hashing, atomic files, progress. Imports nothing of nacre above it."""
