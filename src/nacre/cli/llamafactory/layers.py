"""LlamaFactory's freezing: which layers, and which modules in them, train."""

import json
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.cli.llamafactory.arguments import Arguments, kind_of

BY_NAME = ("freeze_trainable_modules", "freeze_extra_modules", "use_llama_pro")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


def settled_kind(arguments: Arguments) -> str:
    """The finetuning_type, given or not."""
    return kind_of(arguments.model_dump(exclude_unset=True, exclude_none=True))


def by_name(arguments: Arguments) -> bool:
    """Whether something else trains than a number of last layers."""
    below = min(_number(arguments.freeze_trainable_layers), _number(arguments.trainable_layers)) < 0
    named = arguments.freeze_trainable_modules != "all" or arguments.freeze_extra_modules
    return settled_kind(arguments) == "freeze" and bool(below or named or arguments.use_llama_pro)


def trained_modules(arguments: Arguments) -> list[str]:
    """Names of all that trains, for the protection `freeze`: everything else stays as it is.

    Counts below 0 are first layers; `use_llama_pro` spreads the layers evenly, the last one always among them.

    Raises:
        InputError: the model does not say how many layers it has, or the count does not fit it.
    """
    total = _layers(arguments.model_name_or_path)
    count = _count(arguments, total)
    if not 0 < abs(count) <= total or (arguments.use_llama_pro and (count < 0 or total % count)):
        wanted = f"a divisor of {total}" if arguments.use_llama_pro else f"at most {total}"
        raise InputError(
            f"{count} layers that train do not fit a model of {total} layers",
            where=arguments.model_name_or_path,
            fix=f"give {wanted}",
        )
    if arguments.use_llama_pro:
        places = range(total // count - 1, total, total // count)
    else:
        places = range(total - count, total) if count > 0 else range(-count)
    modules = _parts(arguments.freeze_trainable_modules)
    inside = [f".{module}" for module in modules] if modules != ["all"] else [""]
    head = ["score"] if arguments.stage == "rm" else []
    layers = [f"layers.{place}{module}" for place in places for module in inside]
    return [*layers, *_parts(arguments.freeze_extra_modules or ""), *head]


def _count(arguments: Arguments, total: int) -> int:
    """How many layers train, by whichever argument says so; below 0: first ones."""
    if arguments.freeze_layers is not None:
        return total - arguments.freeze_layers
    if arguments.trainable_layers == "all":
        return total
    return arguments.trainable_layers or arguments.freeze_trainable_layers or 2


def _number(layers: int | str | None) -> int:
    return layers if isinstance(layers, int) else 0


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _layers(model: str) -> int:
    """How many layers the model's configuration names."""
    from nacre.cycle.increment.folder import folder_weights

    path = Path(folder_weights(model).model) / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for described in (config, config.get("text_config") or {}):
        for name in _COUNTS:
            if isinstance(described.get(name), int):
                return int(described[name])
    raise InputError("the model does not say how many layers it has", where=str(path), fix="finetuning_type lora")
