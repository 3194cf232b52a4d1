"""Floor 2: load, chat templates, tuners, generate."""
