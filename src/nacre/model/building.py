"""Models are built one at a time: transformers swaps parts of itself and of torch while it builds one."""

import threading

# `from_pretrained` and `from_config` put other functions in place of `PreTrainedModel.tie_weights`, of torch's default
# number format and more, for the whole process, and put back what they had found. Where two threads build side by side,
# each may put back the other's stand-in, which then stays: heads that are not tied, weights without data. Whoever
# builds holds this. It may be taken again by the thread that holds it. Threads that compute meanwhile are not held up:
# they name the number format of every tensor that they make.
BUILDING = threading.RLock()
