"""What versions can do: scores, each made once, and what is told from them."""
