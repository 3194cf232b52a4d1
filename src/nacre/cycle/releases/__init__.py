"""What is live: moves by hand, rollouts step by step, and what happens by itself."""
