"""What a pass through a decoder keeps for the backward pass, and what its head holds: bytes, counted tensor by tensor.

Counted for blocks of two norms, attention without [T, T] scores and a gated MLP, as all common models have; per token,
D being the hidden size, A the width of all queries, K of all keys, I the MLP's inner width, n the bytes that products
are made in (2 under autocast, else 4):

- each norm keeps its input in float32, and if it trains the normed input, 4 D each;
- linear layers that train or carry an adapter keep their inputs: 4 D once for all that read it, but under autocast each
  its own copy of 2 D: three in attention, two in the MLP;
- attention keeps queries, keys, values and its result, 2 A + 2 K, in n bytes on a GPU, in 4 on a CPU, and its result as
  the output projection reads it, n A;
- the MLP keeps the gate, its activation and the other half, 3 n I, and their product, n I, where the last layer must
  keep its input.

With gradient checkpointing a layer keeps its input alone, and one layer at a time keeps all.

On a CPU there is more: tensors that pass in between, of less than 32 MiB, leave holes. torch asks for aligned memory,
and glibc before 2.38 fits no aligned tensor into the hole that one of its size left. What part of them stays was
measured (`benchmarks/advise.py`). What is larger is mapped by itself and given back at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nacre.model.vocabulary import CHUNK_BYTES, KEPT_BYTES, TILE_BYTES
from nacre.records import Recipe
from nacre.records.tune import AdaLora, Full, Lora, QLora, Tune
from nacre.train.shape import Shape

GIB = 2**30
FUSED_HEAD_ROWS = 256  # positions scored at once by the trainer's head on a GPU
HOLES = 0.42  # share of what passes that stays
MAPPED = 2**25  # bytes of a tensor from which on its memory is its own

Tensors = Iterator[tuple[int, float]]
"""Widths, and bytes of each number."""


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        tokens: that run through the decoder.
        labelled: share of them that is scored.
        mixed: products are made in 16 bits.
        cpu: on a CPU, where rows are packed and attention computes in float32.
        halved: what does not train is held in 16 bits, and with it the states between layers.
        checkpointing: layers are computed a second time.
    """

    tokens: float
    labelled: float
    mixed: bool
    cpu: bool
    halved: bool
    checkpointing: bool

    @property
    def n(self) -> float:
        """Bytes of the numbers that products are made in."""
        return 2.0 if self.mixed else 4.0


def kept(shape: Shape, tune: Tune, one: Pass) -> float:
    """Bytes that the decoder holds when a backward pass begins, and what that pass works with at first."""
    layer = one.tokens * layer_bytes(shape, tune, one)
    slopes = working(shape, tune, one) - layer
    if one.checkpointing:
        stream = 2.0 if one.mixed and one.halved else 4.0
        return one.tokens * stream * shape.hidden * shape.trained_layers + layer + max(slopes, _holes(shape, tune, one))
    return layer * shape.trained_layers + max(slopes, shape.trained_layers * _holes(shape, tune, one))


def working(shape: Shape, tune: Tune, one: Pass) -> float:
    """Bytes of one layer while its gradients are made: what it kept, and slopes of its widest tensors."""
    return one.tokens * (layer_bytes(shape, tune, one) + one.n * (3 * shape.inner + 2 * shape.hidden))


def unreturned(shape: Shape, tune: Tune, one: Pass) -> float:
    """Bytes that are free when a backward pass has ended, and that a CPU's program still holds."""
    if not one.cpu:
        return 0.0
    small = one.tokens * sum(width * each for width, each in _tensors(shape, tune, one) if _on_heap(width, each, one))
    return (1 if one.checkpointing else shape.trained_layers) * (small + _holes(shape, tune, one))


def layer_bytes(shape: Shape, tune: Tune, one: Pass) -> float:
    """Bytes that one layer keeps of a token."""
    return sum(width * each for width, each in _tensors(shape, tune, one))


def _tensors(shape: Shape, tune: Tune, one: Pass) -> Tensors:
    """What one layer keeps."""
    hidden, queries, keys, inner = shape.hidden, shape.queries, shape.keys, shape.inner
    yield from [(hidden, 4.0)] * (4 if shape.norms_train else 2)
    yield from [(width, 4.0 if one.cpu else one.n) for width in (queries, queries, keys, keys)]
    yield from [(inner, one.n)] * 3
    if not shape.keeps_inputs:
        return
    adapter = isinstance(tune, Lora | QLora | AdaLora)
    if isinstance(tune, Lora | QLora | AdaLora) and tune.dropout:  # then each has its own input, and a mask
        yield from [(width, each) for width, _ in _linears(shape) for each in (4.0, one.n)]
        return
    yield from [(hidden, one.n)] * (5 if one.mixed else 2)
    yield (inner, one.n)
    if one.cpu or (adapter and one.mixed):
        yield (queries, one.n)


def _passing(shape: Shape, tune: Tune, one: Pass) -> Tensors:
    """What comes and goes in one layer's forward pass: squares, what turns queries and keys, outputs that are added."""
    yield from [(shape.hidden, 4.0)] * 2
    yield from [(shape.hidden, one.n)] * 2
    yield from [(width, one.n) for width in (shape.queries, shape.keys) for _ in range(4)]
    yield (shape.queries, 4.0)
    if one.mixed:  # what is cast at once
        yield from [(shape.hidden, 4.0)] * 2
    if isinstance(tune, Lora | QLora | AdaLora):
        for width, other in _linears(shape):
            yield from [(other, one.n)] * 3
            if one.mixed:
                yield (width, 4.0)


def _linears(shape: Shape) -> list[tuple[int, int]]:
    """Inputs and outputs of a layer's linear layers."""
    hidden, queries, keys, inner = shape.hidden, shape.queries, shape.keys, shape.inner
    attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return [*attention, (hidden, inner), (hidden, inner), (inner, hidden)]


def _holes(shape: Shape, tune: Tune, one: Pass) -> float:
    """Bytes that one layer's forward pass leaves free and cannot use again."""
    if not one.cpu:
        return 0.0
    passing = ((width, each) for width, each in _passing(shape, tune, one) if _on_heap(width, each, one))
    found = one.tokens * sum(width * each for width, each in passing)
    if isinstance(tune, QLora):  # weights are made whole for each product
        whole = [4.0 * width * other for width, other in _linears(shape)]
        found += sum(size for size in whole if size < MAPPED)
    return HOLES * found


def _on_heap(width: int, each: float, one: Pass) -> bool:
    return one.tokens * width * each < MAPPED


def scores(shape: Shape, recipe: Recipe, one: Pass) -> float:
    """Bytes of scores over the vocabulary where most of them are there, see `nacre.model.vocabulary`."""
    positions, size = one.tokens * one.labelled, shape.vocabulary
    if not one.cpu:
        return 12.0 * min(positions, FUSED_HEAD_ROWS) * size
    if recipe.train.stage not in ("sft", "pt"):
        return 12.0 * positions * size
    chunk = CHUNK_BYTES / (4 * size)
    if isinstance(recipe.tune, Full):
        at_once = positions if 4 * size * positions <= KEPT_BYTES else chunk
        return (14.0 if one.mixed else 12.0) * at_once * size
    head = 2.0 * size * shape.hidden if one.mixed and not one.halved else 0.0  # cast at each call
    # as they come out of the product, and a few at a time in float32: logits, their logarithms, what is made of them
    return head + (2.0 if one.mixed else 4.0) * min(positions, chunk) * size + 3.0 * max(TILE_BYTES, 4.0 * size)
