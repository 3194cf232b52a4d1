"""Answers that come from other servers: anything that speaks OpenAI's API, vLLM with its LoRA endpoints first."""
