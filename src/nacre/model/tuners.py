"""Which parameters train: everything, the top layers, or low-rank adapters."""

from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from nacre.base.errors import InputError, nearest
from nacre.model.load import decoder_layers
from nacre.records.tune import Freeze, Full, Lora, Tune


@dataclass(frozen=True)
class Tuned:
    """A model whose parameters are marked, and a sentence that says what trains."""

    model: Any
    kind: str  # "full" or "adapter": what its artifact will hold
    summary: str


def apply(model: Any, tune: Tune) -> Tuned:
    """Mark what trains. A model that already carries an adapter goes on with it under `lora`.

    Raises:
        InputError: more layers asked for than there are, or a LoRA target that names no module.
    """
    if isinstance(tune, Lora):
        goes_on = isinstance(model, PeftModel)
        model = model if goes_on else _with_lora(model, tune)
        rank = model.peft_config["default"].r
        ignored = f", goes on with the adapter's own; {tune.rank} was asked for" if rank != tune.rank else ""
        return Tuned(model, "adapter", _count(model, f"LoRA rank {rank}{ignored}"))
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    what = "every layer"
    if isinstance(tune, Full):
        model.requires_grad_(True)
    else:
        what = _freeze(model, tune)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # a small step added to a large bf16 number would be lost
    return Tuned(model, "full", _count(model, what))


def _freeze(model: Any, tune: Freeze) -> str:
    layers = decoder_layers(model)
    trained = len(layers) - tune.frozen_layers if tune.frozen_layers is not None else tune.trainable_layers
    if not 1 <= trained <= len(layers):
        raise InputError(
            f"{trained} of {len(layers)} layers would train",
            where="tune.frozen_layers" if tune.frozen_layers is not None else "tune.trainable_layers",
            fix=f"the model has {len(layers)} layers: leave at least one to train",
        )
    model.requires_grad_(False)
    for layer in layers[len(layers) - trained :]:
        layer.requires_grad_(True)
    return f"the last {trained} of {len(layers)} layers"


def _with_lora(model: Any, tune: Lora) -> Any:
    linear = sorted(
        {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    )
    everything = tune.target in (("all-linear",), ("all",))
    for name in () if everything else tune.target:
        if name not in linear:
            close = nearest(name, linear)
            hint = f"did you mean '{close}'? " if close else ""
            raise InputError(
                f"LoRA target '{name}' is no linear module",
                where="tune.target",
                fix=f"{hint}Known: {', '.join(linear)}",
            )
    config = LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha or 2 * tune.rank,
        lora_dropout=tune.dropout,
        target_modules="all-linear" if everything else list(tune.target),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _count(model: Any, what: str) -> str:
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"{what}: {trained:,} of {total:,} parameters train ({100 * trained / total:.1f} %)"
