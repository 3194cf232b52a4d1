"""Floor 2: load, chat templates, tuners, generate."""

import logging

# Says at its first import, which is PEFT's doing where it is installed, that a faster kernel could be fetched.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
