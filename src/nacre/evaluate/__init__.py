"""Floor 3: scores per example, the accuracy matrix and its pictures."""
