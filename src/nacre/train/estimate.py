"""How much memory and time a training needs, from the model's configuration alone: no weights are loaded.

Memory is what a training adds to a program that has everything imported. It is the largest of four moments: the weights
are loaded, a backward pass begins (all activations, all scores), it has ended (all gradients), and the end, where what
the model says is compared with what it said before. `nacre.train.activations` counts what a pass keeps. Time is
2 FLOPs per parameter and token forward, as many backward, as many again for the gradients of those that train, at a
share of what the device does in plain products.

`benchmarks/advise.py` holds the figures against real runs on a CPU: memory is within 15 %. Nothing was measured on a
GPU, and the time is rough.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import psutil
import torch

from nacre.base.config import parse
from nacre.model.load import pick_device
from nacre.records import Recipe, Weights
from nacre.records.tune import MOVES_THE_BASE, Adapter, Freeze, Full, Lora, QLora, Tune
from nacre.train.activations import GIB, Pass, kept, scores, unreturned, working
from nacre.train.arguments import precision_of
from nacre.train.drift import POSITIONS, ROWS
from nacre.train.launch import group_of
from nacre.train.protect import PROTECTIONS
from nacre.train.shape import Dimensions, Shape, shape_of
from nacre.train.sharding import sharding_of
from nacre.train.teacher_cache import LIMIT_BYTES
from nacre.train.trunk import PASSES

__all__ = ["GIB", "Device", "Estimate", "Rows", "device_now", "estimate", "shape_of", "size"]

EFFICIENCY = 0.35  # share of the device's speed in plain products that training reaches
CUDA_CONTEXT = 0.6 * GIB  # what CUDA and its libraries take before anything is computed
PROGRAM = 0.1 * GIB  # on a CPU: rows, log, libraries' own buffers
OPTIMIZER_BYTES = {"adafactor": 0.1, "sgd": 0.0, "adamw_8bit": 2.0, "adamw_bnb_8bit": 2.0, "paged_adamw_8bit": 2.0}
COMPARED = 5  # tables of scores that are there at once when what was said is compared at the end
CUT = {  # what each of several processes holds a part of only
    "zero2": ("gradients", "optimizer"),
    "zero3": ("weights", "gradients", "optimizer"),
    "fsdp2": ("weights", "gradients", "optimizer"),
}


@dataclass(frozen=True)
class Rows:
    """What is trained on: number of steps, tokens of the longest and of a mean row, share of tokens with a label.

    `texts` is how many texts a row stands for: two where answers are compared; `distinct` how many rows there are,
    where it is known.
    """

    steps: int
    longest: int
    mean: float
    labelled: float = 0.5
    texts: int = 1
    distinct: int = 0


@dataclass(frozen=True)
class Device:
    """Where it trains: `cpu` or `cuda`, how much memory it has free, floating-point operations a second."""

    kind: str
    memory_bytes: float
    flops_per_s: float


@dataclass(frozen=True)
class Estimate:
    """Bytes by what needs them at the moment that needs most, floating-point operations, and seconds.

    Attributes:
        moment: `loading`, `backward`, `gradients` or `end`.
    """

    parts: Mapping[str, float]
    flops: float
    seconds: float
    moment: str = "backward"

    @property
    def memory_bytes(self) -> float:
        """All parts together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size(needed)}" for name, needed in self.parts.items() if needed >= 0.01 * GIB)
        return f"about {size(self.memory_bytes)} of memory{f' ({parts})' if parts else ''} and {span(self.seconds)}"


def estimate(recipe: Recipe, start: Weights | Dimensions, rows: Rows, device: Device) -> Estimate:
    """What training `rows` by `recipe` from `start` on `device` needs, each process's share.

    Raises:
        InputError: no configuration there, or a tuner that does not fit the model.
    """
    shape, (world, _) = shape_of(start, recipe.tune), group_of(recipe.train)
    moments = _Moments(recipe, shape, rows, device, world).all()
    for parts in moments.values():
        for part in CUT.get(sharding_of(recipe.train), ()):
            parts[part] /= world
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    flops = _flops(recipe, shape, rows) / world
    return Estimate(moments[moment], flops, flops / (EFFICIENCY * device.flops_per_s), moment)


class _Moments:
    """Bytes by what needs them, at each moment that may need most."""

    def __init__(self, recipe: Recipe, shape: Shape, rows: Rows, device: Device, world: int) -> None:
        self.recipe, self.tune, self.shape, self.rows = recipe, recipe.tune, shape, rows
        settings, self.cpu = recipe.train, device.kind == "cpu"
        bf16, fp16, _ = precision_of(settings.precision, not self.cpu)
        self.mixed = bf16 or fp16
        batch = max(1, settings.batch_size // settings.accumulation // world)
        each = min(rows.longest, settings.max_length) + getattr(recipe.tune, "tokens", 0)
        self.halved = self.cpu and self.mixed and _halves(recipe.tune)
        self.one_pass = Pass(
            tokens=batch * rows.texts * each,
            labelled=rows.labelled,
            mixed=self.mixed,
            cpu=self.cpu,
            halved=self.halved or not self.cpu,
            checkpointing=bool(settings.gradient_checkpointing),
        )

    def all(self) -> dict[str, dict[str, float]]:
        """By name of the moment."""
        shape, one_pass = self.shape, self.one_pass
        lasting = {
            "weights": self._weights(),
            "gradients": 0.0,
            "optimizer": OPTIMIZER_BYTES.get(self.recipe.train.optimizer or "", 8.0) * shape.trained,
            "activations": 0.0,
            "answers' scores": 0.0,
            "protections": self._protections(),
            "kept states": self._trunk(),
            "what was said before": self._said() if self.cpu else 0.0,
            "program": PROGRAM if self.cpu else CUDA_CONTEXT,
        }
        head = 4.0 * shape.vocabulary * shape.hidden if isinstance(self.tune, Full) else 0.0
        gradients = 4.0 * shape.trained
        begins = lasting | {
            "weights": lasting["weights"] + self._casts(),
            "gradients": gradients if self.recipe.train.accumulation > 1 else head,
            "activations": kept(shape, self.tune, one_pass),
            "answers' scores": scores(shape, self.recipe, one_pass),
        }
        held = unreturned(shape, self.tune, one_pass)
        copies = self._casts() if self.cpu else 0.0
        again = self.recipe.train.accumulation > 1  # then every pass but the first finds gradients there already
        small = max(0.0, gradients - head * (1 if shape.tied else 2))  # those that fit where activations were
        ended = lasting | {
            # of one matrix from two sides, and their sum; and what it is added to
            "gradients": gradients + (2 * head if shape.tied else 0.0) + (head if again else 0.0),
            "activations": max(working(shape, self.tune, one_pass), held + copies - (0.0 if again else small)),
        }
        found = {"backward": begins, "gradients": ended}
        if self.cpu:
            found["loading"] = {**dict.fromkeys(lasting, 0.0), "weights": self._loading(), "program": PROGRAM}
            compared = {"answers' scores": (COMPARED - 1) * self._said(), "activations": held}
            found["end"] = lasting | compared
        return found

    def _weights(self) -> float:
        """What is held of them while nothing is computed."""
        shape, tune = self.shape, self.tune
        frozen = 4.0 if not self.mixed else shape.stored_bytes
        if self.cpu:
            frozen = 2.0 if self.halved else 4.0
        if isinstance(tune, Full | Freeze):
            return 4.0 * shape.trained + frozen * (shape.total - shape.trained)
        if not isinstance(tune, QLora):
            return frozen * shape.total + 4.0 * shape.trained
        others = shape.total - shape.linear
        if self.cpu and shape.stored_bytes == 4:  # they are the file, which stays as long as one of them does
            others = shape.total
        return _quantised(tune) * shape.linear + frozen * others + 4.0 * shape.trained

    def _casts(self) -> float:
        """Copies in 16 bits that autocast makes for the pass."""
        if not self.mixed:
            return 0.0
        copied = float(self.shape.trained)
        if self.cpu and not self.halved and not isinstance(self.tune, Full | Freeze | QLora):
            copied += self.shape.linear
        return 2.0 * copied

    def _loading(self) -> float:
        """A file is mapped into memory; what is held as it was stored is the file, all else is a copy beside it."""
        shape = self.shape
        if isinstance(self.tune, QLora):
            copied = 0 if shape.stored_bytes == 4 else shape.total - shape.linear
            return shape.stored_bytes * shape.total + _quantised(self.tune) * shape.linear + 4.0 * copied
        if shape.stored_bytes == 4:
            return (6.0 if self.halved else 4.0) * shape.total
        return (shape.stored_bytes + 4.0) * shape.total

    def _said(self) -> float:
        """Log-probabilities that are kept of what the model said before it trained."""
        if self.recipe.train.stage == "rm":
            return 0.0
        each = self.rows.labelled * min(self.rows.mean, self.recipe.train.max_length)
        return 4.0 * self.shape.vocabulary * min(POSITIONS, (self.rows.distinct or ROWS) * each, ROWS * each)

    def _trunk(self) -> float:
        """States of blocks below all that trains, mapped from a file (`nacre.train.trunk`)."""
        settings, rows = self.recipe.train, self.rows
        off = settings.trunk_cache == "off" or settings.gradient_checkpointing or settings.neftune_alpha
        if not self.cpu or off or not isinstance(self.tune, Freeze) or not rows.distinct:
            return 0.0
        if rows.steps * settings.batch_size < PASSES * rows.distinct:
            return 0.0
        states = 4.0 * rows.distinct * rows.texts * min(rows.mean, settings.max_length) * self.shape.hidden
        return states if states <= settings.trunk_cache_gib * GIB else 0.0

    def _protections(self) -> float:
        if self.recipe.protect == "auto":  # nothing is known of the past; see `nacre.train.memory` for where it is
            entries: Sequence[Mapping[str, Any]] = ({"name": "distill"},)
        else:
            entries = self.recipe.protect
        needed = 0.0
        for entry in entries:
            name = str(entry.get("name"))
            kind = PROTECTIONS.load(name, where="protect")
            options = {key: value for key, value in entry.items() if key != "name"}
            config = parse(kind.Config, options, where=f"protect ({name})")
            needed += 4.0 * self.shape.trained * kind.copies_held(config)
            if name in ("distill", "der", "sdft"):
                needed += self._teacher(config)
        return needed

    def _teacher(self, config: Any) -> float:
        """The previous version beside the one that trains, and the scores of both where they are compared.

        With a cache its answers lie in memory; it is still asked about what the cache does not know.
        """
        tune, shape = self.tune, self.shape
        shares = not isinstance(tune, Full | Freeze) and getattr(tune, "init", "default") not in MOVES_THE_BASE
        copy = 0.0 if shares else (4.0 if self.cpu or not self.mixed else shape.stored_bytes) * shape.total
        at_once = -(-getattr(config, "rows", 0) // max(1, self.recipe.train.accumulation)) * getattr(
            config, "length", 0
        )
        cached = 0.0
        if k := getattr(config, "cache", None):
            asked = max(self.rows.distinct, 1) * self.rows.mean
            cached = min(float(LIMIT_BYTES), (8.0 * k + 8) * asked)
        more = kept(shape, tune, replace(self.one_pass, tokens=at_once)) if at_once else 0.0
        return copy + cached + more + 5 * 4.0 * at_once * shape.vocabulary


def _halves(tune: Tune) -> bool:
    """Whether what an adapter sits on is held in bf16 on a CPU, see `nacre.train.arguments.halve_frozen`."""
    if isinstance(tune, Lora):
        return not tune.dora and tune.init not in MOVES_THE_BASE
    return isinstance(tune, Adapter)


def _quantised(tune: QLora) -> float:
    """Bytes of a weight: its digits, and its share of the scale of 64 weights."""
    return 1.0 if tune.bits == 8 else 0.5 + (0.0161 if tune.double_quant else 0.0625)


def _flops(recipe: Recipe, shape: Shape, rows: Rows) -> float:
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


def span(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
