"""nacre: continual learning for language models, from a data file to a served, reversible version."""

import os

__version__ = "0.1.0"

# Set before any library reads them. nacre reaches no network unless the user asks for it:
# a hub name is looked up in the local cache only, and no library sends usage statistics.
for _name, _value in {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)
