"""How much memory and time a training needs, from the model's configuration alone: no weights are loaded.

The parameters are counted on a model without storage, with the tuner applied to it. Activations are counted for a
decoder with gated MLPs and attention that keeps no [T, T] scores, as all common models are; per layer and token, D
being the hidden size, I the MLP's inner size:

- two norms keep 3 D each: their input, the normed input and what they pass on (in float32 under mixed precision);
- attention keeps 5 D: queries, keys and values spread over all heads, its result, and the result rearranged;
- the MLP keeps 4 I: gate, its activation, the other half, their product.

A norm that does not train need not keep the normed input, which leaves 2 D; where no linear layer trains or carries an
adapter, D, 4 D and 3 I are left. With gradient
checkpointing a layer keeps its input alone, and one layer at a time keeps all. Time is 2 FLOPs per parameter and
token forward, as many backward, as many again for the gradients of those that train, at a share of what the device
does in plain products. The figures hold within about a third for memory; the time is rough.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil
import torch
from pydantic import TypeAdapter
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from nacre.base.config import parse
from nacre.model.load import configuration, pick_device, stored_dtype
from nacre.model.tuners import apply
from nacre.model.vocabulary import CHUNK_BYTES, KEPT_BYTES
from nacre.records import Recipe, Weights
from nacre.records.tune import AdaLora, Freeze, Full, Lora, Prefix, Prompt, PTuning, QLora, Tune
from nacre.train.arguments import precision_of
from nacre.train.launch import group_of
from nacre.train.protect import PROTECTIONS
from nacre.train.sharding import sharding_of

GIB = 2**30
EFFICIENCY = 0.35  # share of the device's speed in plain products that training reaches
CUDA_CONTEXT = 0.6 * GIB  # what CUDA and its libraries take before anything is computed
FUSED_HEAD_ROWS = 256  # positions scored at once by the trainer's head on a GPU
OPTIMIZER_BYTES = {"adafactor": 0.1, "sgd": 0.0, "adamw_8bit": 2.0, "adamw_bnb_8bit": 2.0, "paged_adamw_8bit": 2.0}
HELD = {"cuda": 1.0, "cpu": 1.4}  # main memory that was freed lies between what is in use and is not handed back
CUT = {  # what each of several processes holds a part of only
    "zero2": ("gradients", "optimizer"),
    "zero3": ("weights", "gradients", "optimizer"),
    "fsdp2": ("weights", "gradients", "optimizer"),
}


@dataclass(frozen=True)
class Rows:
    """What is trained on: number of steps, tokens of the longest and of a mean row, share of tokens with a label.

    `texts` is how many texts a row stands for: two where answers are compared.
    """

    steps: int
    longest: int
    mean: float
    labelled: float = 0.5
    texts: int = 1


@dataclass(frozen=True)
class Device:
    """Where it trains: `cpu` or `cuda`, how much memory it has free, floating-point operations a second."""

    kind: str
    memory_bytes: float
    flops_per_s: float


@dataclass(frozen=True)
class Estimate:
    """Bytes by what needs them, floating-point operations, and seconds."""

    parts: Mapping[str, float]
    flops: float
    seconds: float

    @property
    def memory_bytes(self) -> float:
        """All parts together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size(needed)}" for name, needed in self.parts.items() if needed >= 0.01 * GIB)
        return f"about {size(self.memory_bytes)} of memory{f' ({parts})' if parts else ''} and {_span(self.seconds)}"


@dataclass(frozen=True)
class _Shape:
    """The model's sizes; parameter counts by what happens to them."""

    total: int
    trained: int
    linear: int
    embedding: int
    hidden: int
    inner: int
    layers: int
    trained_layers: int
    vocabulary: int
    stored_bytes: int
    norms_train: bool
    keeps_inputs: bool


def estimate(recipe: Recipe, start: Weights, rows: Rows, device: Device) -> Estimate:
    """What training `rows` by `recipe` from `start` on `device` needs, each process's share.

    Raises:
        InputError: no configuration there, or a tuner that does not fit the model.
    """
    settings, shape = recipe.train, shape_of(start, recipe.tune)
    bf16, fp16, _ = precision_of(settings.precision, device.kind == "cuda")
    mixed = bf16 or fp16
    world, _ = group_of(settings)
    batch = max(1, settings.batch_size // settings.accumulation // world)
    tokens = batch * rows.texts * (min(rows.longest, settings.max_length) + getattr(recipe.tune, "tokens", 0))
    parts = {
        "weights": _weights(shape, recipe.tune, mixed),
        "gradients": 4.0 * shape.trained,
        "optimizer": OPTIMIZER_BYTES.get(settings.optimizer or "", 8.0) * shape.trained,
        "activations": _activations(shape, tokens, mixed, settings.gradient_checkpointing) * HELD[device.kind],
        "answers' scores": _head(recipe, shape, tokens * rows.labelled, device),
        "protections": _protections(recipe, shape, mixed),
    }
    for part in CUT.get(sharding_of(settings), ()):
        parts[part] /= world
    if device.kind == "cuda":
        parts["CUDA"] = CUDA_CONTEXT
    flops = _flops(recipe, shape, rows) / world
    return Estimate(parts, flops, flops / (EFFICIENCY * device.flops_per_s))


def shape_of(start: Weights, tune: Tune) -> _Shape:
    """Sizes from the configuration, with the tuner's parameters."""
    config = configuration(start)
    return _counted(json.dumps(config.to_dict(), default=str), tune.model_dump_json(), stored_dtype(start).itemsize)


@lru_cache(maxsize=64)
def _counted(config_json: str, tune_json: str, stored_bytes: int) -> _Shape:
    config = AutoConfig.for_model(**json.loads(config_json))
    text, tune = config.get_text_config(), TypeAdapter(Tune).validate_json(tune_json)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        embedding = model.get_input_embeddings().weight.numel()
        head = model.get_output_embeddings()
        linear = sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Linear) and one is not head)
        total = sum(weight.numel() for weight in model.parameters())
        trained, layers = _trained(model, tune, text)
    virtual = isinstance(tune, Prompt | PTuning | Prefix)
    return _Shape(
        total=total,
        trained=trained,
        linear=linear,
        embedding=embedding,
        hidden=text.hidden_size,
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        layers=text.num_hidden_layers,
        trained_layers=layers,
        vocabulary=text.vocab_size,
        stored_bytes=stored_bytes,
        norms_train=isinstance(tune, Full | Freeze),
        keeps_inputs=not virtual and tune.name != "ia3",
    )


def _trained(model: Any, tune: Tune, text: Any) -> tuple[int, int]:
    """Parameters that train, and layers that a gradient passes through."""
    layers = text.num_hidden_layers
    if isinstance(tune, Prompt | PTuning | Prefix):  # they would look at the weights
        each = text.hidden_size if not isinstance(tune, Prefix) else 2 * layers * _heads_width(text)
        network = 2 * text.hidden_size * tune.width + tune.width**2 if isinstance(tune, PTuning) else 0
        return tune.tokens * each + network, layers
    diagonal = 0
    if isinstance(tune, AdaLora):  # LoRA's two factors, and between them one number for each rank
        diagonal = tune.start_rank or max(tune.rank + 1, round(1.5 * tune.rank))
        tune = Lora(rank=diagonal, target=tune.target)
    if isinstance(tune, Lora | QLora):  # how it begins costs nothing later, and needs the weights
        changes = {"init": "default"} if isinstance(tune, Lora) else {"double_quant": True}
        tune = tune.model_copy(update={**changes, "dora": False})
    tuned = apply(model, tune)
    weights = dict(tuned.model.named_parameters())
    trained = sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    trained += diagonal * sum("lora_A" in name for name in weights)
    if isinstance(tune, Freeze):
        layers = layers - tune.frozen_layers if tune.frozen_layers is not None else tune.trainable_layers
    return trained, layers


def _heads_width(text: Any) -> int:
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    each = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(heads * each)


def _weights(shape: _Shape, tune: Tune, mixed: bool) -> float:
    frozen_bytes = shape.stored_bytes if mixed else 4  # what does not train stays as stored only under autocast
    cast = 2.0 * shape.trained if mixed else 0.0  # autocast keeps 16-bit copies of what it casts
    if isinstance(tune, Full | Freeze):
        return 4.0 * shape.trained + frozen_bytes * (shape.total - shape.trained) + cast
    adapter = 4.0 * shape.trained + cast
    if not isinstance(tune, QLora):
        return frozen_bytes * shape.total + adapter
    per_weight = 1.0 if tune.bits == 8 else 0.5 + (0.0161 if tune.double_quant else 0.0625)  # scales of 64 weights each
    return per_weight * shape.linear + frozen_bytes * (shape.total - shape.linear) + adapter


def _activations(shape: _Shape, tokens: float, mixed: bool, checkpointing: bool) -> float:
    wide, narrow = (4.0, 2.0) if mixed else (4.0, 4.0)
    norms = 6 if shape.norms_train else 4 if shape.keeps_inputs else 2
    attention, mlp = (5, 4) if shape.keeps_inputs else (4, 3)
    layer = wide * norms * shape.hidden + narrow * (attention * shape.hidden + mlp * shape.inner)
    if checkpointing:
        return tokens * (wide * shape.hidden * shape.trained_layers + 2 * layer)
    return tokens * layer * shape.trained_layers


def _head(recipe: Recipe, shape: _Shape, positions: float, device: Device) -> float:
    """Scores over the vocabulary, what the softmax keeps, and their gradient, in float32."""
    if device.kind == "cuda":
        positions = min(positions, FUSED_HEAD_ROWS)
    elif recipe.train.stage in ("sft", "pt"):  # a head that does not train keeps none of them
        kept = KEPT_BYTES if isinstance(recipe.tune, Full) else CHUNK_BYTES
        positions = min(positions, kept / (4 * shape.vocabulary))
    return 3 * 4.0 * positions * shape.vocabulary


def _protections(recipe: Recipe, shape: _Shape, mixed: bool) -> float:
    if recipe.protect == "auto":  # nothing is known of the past; see `nacre.train.memory` for where it is
        entries: Sequence[Mapping[str, Any]] = ({"name": "distill"},)
    else:
        entries = recipe.protect
    needed = 0.0
    for entry in entries:
        name = str(entry.get("name"))
        kind = PROTECTIONS.load(name, where="protect")
        options = {key: value for key, value in entry.items() if key != "name"}
        config = parse(kind.Config, options, where=f"protect ({name})")
        needed += 4.0 * shape.trained * kind.copies_held(config)
        if name in ("distill", "der", "sdft"):
            needed += _teacher(recipe, shape, mixed, config)
    return needed


def _teacher(recipe: Recipe, shape: _Shape, mixed: bool, config: Any) -> float:
    """The previous version beside the one that trains, and the scores of both where they are compared."""
    tune = recipe.tune
    shares = not isinstance(tune, Full | Freeze) and getattr(tune, "init", "default") not in ("pissa", "olora")
    copy = 0.0 if shares else (shape.stored_bytes if mixed else 4.0) * shape.total
    rows = getattr(config, "rows", 0)
    length = getattr(config, "length", 0)
    at_once = -(-rows // max(1, recipe.train.accumulation)) * length
    return copy + 5 * 4.0 * at_once * shape.vocabulary


def _flops(recipe: Recipe, shape: _Shape, rows: Rows) -> float:
    tune, settings = recipe.tune, recipe.train
    length = min(rows.mean, settings.max_length) + getattr(tune, "tokens", 0)
    tokens = rows.steps * settings.batch_size * rows.texts * length
    body = float(shape.linear)
    head = shape.vocabulary * shape.hidden * rows.labelled
    through = body * shape.trained_layers / shape.layers + head
    gradients = shape.trained / shape.total * (body + head)
    forward, backward = 2 * (body + head), 2 * (through + gradients)
    again = 2 * body if settings.gradient_checkpointing else 0
    return tokens * (forward + backward + again)


@lru_cache(maxsize=4)
def device_now(kind: str | None = None) -> Device:
    """The device that would train, its free memory and its measured speed."""
    kind = kind or pick_device().type
    if kind == "cuda":
        memory: float = torch.cuda.mem_get_info()[1]
        return Device(kind, memory, _speed(kind, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16))
    return Device(kind, psutil.virtual_memory().available, _speed(kind, torch.float32))


def _speed(kind: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second in products of two square matrices, measured for a fifth of a second."""
    width = 4096 if kind == "cuda" else 512
    one = torch.ones(width, width, dtype=dtype, device=kind)
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < 0.2 or done == 0:
        one @ one
        if kind == "cuda":
            torch.cuda.synchronize()
        done += 1
    return 2 * width**3 * done / spent


def size(needed: float) -> str:
    """Bytes for people."""
    return f"{needed / GIB:.1f} GiB" if needed >= 0.1 * GIB else f"{needed / 2**20:.0f} MiB"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
