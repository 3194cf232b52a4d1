"""Rules that turn paired scores into a verdict. No torch, no files."""

from nacre.gate.rules import TaskPair, judge

__all__ = ["TaskPair", "judge"]
