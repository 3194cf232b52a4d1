"""What a model's folder may not ask for: weights that are pickled or lie elsewhere, and kernels from the hub.

transformers reads whatever an index of shards names, and fetches and runs the kernel that a configuration names as its
attention.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError

_SHARDS = "model.safetensors.index.json"
_KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")


def refuse_foreign(model: str) -> None:
    """Look at a model's folder before anything of it is loaded; a hub's name has been looked at by its cache.

    Raises:
        InputError: a shard that is no safetensors file of this folder, or an attention that is code from elsewhere.
    """
    folder = Path(model)
    for name in sorted(_shards(folder / _SHARDS)):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"the index of shards names {name[:80]!r}, which is no safetensors file of this folder",
                where=str(folder / _SHARDS),
                fix="save the model with save_pretrained (safetensors)",
            )
    for kernel in _kernels(_read(folder / "config.json")):
        if "/" in kernel:
            raise InputError(
                f"the configuration wants code from elsewhere for its attention: {kernel[:80]!r}",
                where=str(folder / "config.json"),
                fix="remove attn_implementation from it",
            )


def _shards(index: Path) -> set[str]:
    found = _read(index)
    named = found.get("weight_map") if isinstance(found, dict) else None
    return {str(name) for name in named.values()} if isinstance(named, dict) else set()


def _kernels(config: Any) -> Iterator[str]:
    """What it names as attention, for the whole or for one of its parts."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key in _KERNEL_KEYS and value is not None:
            yield from map(str, value.values() if isinstance(value, dict) else [value])
        else:
            yield from _kernels(value)


def _read(path: Path) -> Any:
    """A JSON file; None where there is none that can be read: who loads the model says so."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
