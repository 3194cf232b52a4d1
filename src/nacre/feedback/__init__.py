"""Floor 3: what people said about answers, turned into rows for the next increment. No torch."""
