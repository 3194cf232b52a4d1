"""Floor 2: load, chat templates, tuners, generate."""

import logging

# Say at their first import, which is PEFT's or transformers' doing where they are installed, that a faster kernel could
# be fetched or belongs to another machine, and that a way of registering is old.
for _talker in ("bitsandbytes.backends.cpu.ops", "torchao", "torch.utils._pytree"):
    logging.getLogger(_talker).setLevel(logging.ERROR)
