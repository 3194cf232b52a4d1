"""Reading the matrices of a LoRA adapter, and putting another, of another rank, in its place.

Shapes: R rank, I input size, O output size of a module.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from nacre.base.errors import InputError
from nacre.records.tune import MOVES_THE_BASE

DEFAULT = "default"  # the adapter that trains and is saved
_ASIDE = "nacre-aside"  # holds the place while the default one is made anew: a model must have some adapter


class Pair(NamedTuple):
    """One module's two matrices; what they add to its weight is ``B_OR @ A_RI``, with nothing to multiply."""

    A_RI: torch.Tensor
    B_OR: torch.Tensor


def lora_layers(model: Any, name: str = DEFAULT) -> Iterator[tuple[str, Any]]:
    """Every module that the adapter is on, with its name."""
    for where, module in model.named_modules():
        if isinstance(module, LoraLayer) and name in module.r:
            yield where, module


def matrices(layer: Any, name: str = DEFAULT) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """A and B of a module, as they train and are stored."""
    if name in layer.lora_embedding_A:
        return layer.lora_embedding_A[name], layer.lora_embedding_B[name]
    return layer.lora_A[name].weight, layer.lora_B[name].weight


def pairs(model: Any, name: str = DEFAULT) -> dict[str, Pair]:
    """Copies of an adapter's matrices by module; its scaling is folded into B."""
    found = {}
    for where, layer in lora_layers(model, name):
        A_RI, B_OR = matrices(layer, name)
        found[where] = Pair(A_RI.detach().clone(), B_OR.detach() * layer.scaling[name])
    return found


def plain_config(model: Any, who: str) -> LoraConfig:
    """The configuration of the adapter that trains.

    Raises:
        InputError: it is more than two matrices a module, so it cannot be put together with others.
    """
    config = model.peft_config[DEFAULT]
    assert isinstance(config, LoraConfig)
    more = {
        "DoRA": config.use_dora,
        "ranks of their own for some modules": config.rank_pattern,
        "trained biases": config.bias != "none" or config.lora_bias,
        "whole modules beside them": config.modules_to_save,
        f"a beginning that moves the base ({config.init_lora_weights})": config.init_lora_weights in MOVES_THE_BASE,
    }
    for what in (what for what, there in more.items() if there):
        raise InputError(
            f"'{who}' cannot put adapters together that have {what}",
            where=f"protect: {who}",
            fix=f"leave {who} out, or train a plain LoRA adapter",
        )
    return config


def put_adapter(model: Any, given: Mapping[str, Pair], config: LoraConfig, *, rank: int, scaling: float) -> None:
    """Make an adapter of `rank` and `scaling` the one that trains, with the matrices `given` (by module).

    Where these have a lower rank, it is filled up as new adapters begin: at random in A, with zeros in B, so that
    nothing is added yet.
    """
    alpha = scaling * (rank**0.5 if config.use_rslora else rank)
    alpha = int(alpha) if float(alpha).is_integer() else alpha
    fresh = replace(config, r=rank, lora_alpha=alpha, alpha_pattern={}, init_lora_weights=True, inference_mode=False)
    training = model.training
    model.add_adapter(_ASIDE, replace(fresh))
    model.set_adapter(_ASIDE)
    model.delete_adapter(DEFAULT)
    model.add_adapter(DEFAULT, fresh)
    model.set_adapter(DEFAULT)
    model.delete_adapter(_ASIDE)
    model.train(training)
    with torch.no_grad():
        for where, layer in lora_layers(model):
            A_RI, B_OR = matrices(layer)
            filled = given[where].A_RI.shape[0]
            A_RI[:filled] = given[where].A_RI
            B_OR[:, :filled] = given[where].B_OR / scaling
