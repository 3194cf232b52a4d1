"""Floor 3: the OpenAI-compatible API: keys, routes, feedback, and the engines that answer."""
