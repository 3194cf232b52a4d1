"""A language model as judge: `prompts` asks and reads, `verdicts` puts it together."""
