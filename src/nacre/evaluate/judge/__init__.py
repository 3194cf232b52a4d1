"""A language model as judge: `client` asks the server, `prompts` asks and reads, `verdicts` puts it together."""
