"""Statistics the gate stands on: numbers in, numbers out. No files, no torch."""
