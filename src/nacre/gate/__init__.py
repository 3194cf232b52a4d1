"""Rules that turn paired scores into a verdict. No torch."""

from nacre.gate.judge import decide, judge
from nacre.gate.pair import TaskPair

__all__ = ["TaskPair", "decide", "judge"]
