"""The bridge to lm-evaluation-harness: its tasks on our models, its samples as reports, our dev rows as its tasks."""
