"""Eight bits a weight by torchao: one scale for each row of a matrix, the embedding's and the head's rows too.

`weight-only` rounds the weights alone; `dynamic` also rounds what comes into each layer, token by token. In eager mode
torchao turns the rows into floats at every product, which on a CPU takes longer than whole weights do; `Int8Linear`
asks torch's integer product instead, where the CPU has one.

Shapes: B rows, T tokens, I inputs, O outputs, N tokens of all rows, D digits of all of them.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import TorchAoConfig

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.model.smaller.base import Rows, Way, plain_linear
from nacre.records import Compressing

WEIGHTS = "model.safetensors"
LEVELS = 127  # of a digit, on each side of nothing
_TORCHAO = Table(  # an optional dependency: whoever asks for it has looked whether it is there
    "torchao",
    {
        "dynamic": "torchao.quantization:Int8DynamicActivationInt8WeightConfig",
        "flatten": "torchao.prototype.safetensors.safetensors_support:flatten_tensor_state_dict",
        "quantise": "torchao.quantization:quantize_",
        "row": "torchao.quantization:PerRow",
        "tensor": "torchao.quantization:Int8Tensor",
        "weight-only": "torchao.quantization:Int8WeightOnlyConfig",
    },
)
_LEAST = 1e-30  # largest number of a token that is not all zeros


class Int8(Way):
    """Round every row to 255 levels."""

    name = "int8"
    methods = ("weight-only", "dynamic")
    package, extra = "torchao", "smaller"

    def write(self, model: Any, folder: Path, asked: Compressing, rows: Rows) -> list[str]:
        """See `Way.write`."""
        total = sum(weight.numel() for weight in model.parameters())
        rounded, config = round_weights(model, asked.method)
        if not rounded:
            fix = "--to pruned or merged"
            raise InputError("the model has no linear layers to round", where=type(model).__name__, fix=fix)
        _save(model, config, folder)
        return [f"int8, {asked.method}: {rounded:,} of {total:,} weights in 8 bits, a scale for each row"]


def round_weights(model: Any, method: str) -> tuple[int, Any]:
    """Round in place; returns how many weights, and torchao's name for what was done.

    A head that is tied to the embedding stays so, and is rounded with it, weights only. Layers that are more than a
    plain linear layer or embedding stay as they are.
    """
    config = _TORCHAO.load(method)(version=2)
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is words.weight
    chosen = [module for _, module in plain_linear(model) if not (tied and module is head)]
    count = sum(module.weight.numel() for module in chosen)
    wanted = set(map(id, chosen))
    _TORCHAO.load("quantise")(model, config, filter_fn=lambda module, name: id(module) in wanted)
    if type(words) is nn.Embedding and (not tied or type(head) is nn.Linear):
        held = _TORCHAO.load("tensor").from_hp(words.weight.detach(), granularity=_TORCHAO.load("row")())
        words.weight = nn.Parameter(held, requires_grad=False)
        if tied:
            head.weight = words.weight
        count += held.numel()
    return count, config


def _save(model: Any, config: Any, folder: Path) -> None:
    """Write rows and scales as plain tensors; the head of files says what they are, as torchao reads it."""
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    twice = {f"{name}.weight" for name, module in model.named_modules() if tied and module is head}
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items() if name not in twice}
    flat, told = _TORCHAO.load("flatten")(state)
    save_file({name: tensor.contiguous() for name, tensor in flat.items()}, folder / WEIGHTS, told | {"format": "pt"})
    model.config.quantization_config = TorchAoConfig(config, include_input_output_embeddings=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(str(folder))
    if model.can_generate():
        model.generation_config.save_pretrained(str(folder))


class Int8Embedding(nn.Embedding):
    """Looks up rounded rows and scales them."""

    answers: torch.dtype = torch.float32

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Rows [B, T, O] of these ids."""
        held = self.weight
        scale_V1 = held.scale.reshape(-1, 1)  # type: ignore[attr-defined]  # torchao's tensor
        rows_BTO = held.qdata[ids_BT].to(scale_V1.dtype) * scale_V1[ids_BT]  # type: ignore[attr-defined]  # the same
        return rows_BTO.to(self.answers)


class Int8Linear(nn.Linear):
    """Multiplies integers, on a CPU that has instructions for it.

    What comes in is written as one or two digits of 8 bits a number, below a scale for each token, so that the rows are
    read as they are stored. Two digits are 15 bits, far finer than the rows themselves: that is `weight-only`. The sums
    are exact, so a token gives the same whatever stands beside it.
    """

    digits: int = 2

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Outputs [..., O] of inputs [..., I]."""
        held: Any = self.weight
        given_NI = given.reshape(-1, given.shape[-1]).float()
        largest_N1 = given_NI.abs().amax(-1, keepdim=True).clamp(min=_LEAST)
        scaled_NI = given_NI * (LEVELS / largest_N1)
        digits_DI = first_NI = scaled_NI.round()
        if self.digits == 2:
            digits_DI = torch.cat([first_NI, ((scaled_NI - first_NI) * (2 * LEVELS)).round()])
        sums_DO = torch._int_mm(digits_DI.to(torch.int8), held.qdata.t())
        out_NO = sums_DO[: len(given_NI)].float()
        if self.digits == 2:
            out_NO += sums_DO[len(given_NI) :] * (0.5 / LEVELS)
        out_NO *= (largest_N1 / LEVELS) * held.scale.flatten()
        out = out_NO.to(given.dtype).reshape(*given.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


def make_ready(model: Any) -> Any:
    """A loaded model whose rows are rounded, ready to answer."""
    floats = [weight.dtype for weight in model.parameters() if not hasattr(weight, "qdata")]
    module: Any
    for module in model.modules():
        held: Any = getattr(module, "weight", None)
        if not hasattr(held, "qdata"):
            continue
        if type(module) is nn.Embedding:
            module.__class__ = Int8Embedding
            module.answers = floats[0] if floats else held.dtype
        plain = type(module) is nn.Linear
        if plain and held.device.type == "cpu" and has_integer_products():
            module.__class__ = Int8Linear
            module.digits = 2 if held.act_quant_kwargs is None else 1
    return model


def has_integer_products() -> bool:
    """Whether this CPU multiplies bytes into exact 32-bit sums; without that the rows are turned into floats."""
    return bool(torch.cpu._is_vnni_supported())
