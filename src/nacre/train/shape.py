"""A model's sizes, and how many parameters a tuner trains of it: from the configuration, without weights."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pydantic import Field, TypeAdapter
from torch import nn
from transformers import AutoConfig

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.model.building import BUILDING
from nacre.model.load import answering_class, configuration, stored_dtype
from nacre.model.tuners import apply
from nacre.records import Weights
from nacre.records.tune import AdaLora, Freeze, Full, Lora, Prefix, Prompt, PTuning, QLora, Tune


class Dimensions(Settings):
    """Sizes of a decoder with gated MLPs that is not here, by transformers' names."""

    hidden_size: int = Field(ge=1, description="width of the states between layers")
    intermediate_size: int = Field(ge=1, description="inner width of the MLPs")
    num_hidden_layers: int = Field(ge=1, description="layers")
    num_attention_heads: int = Field(ge=1, description="heads of queries")
    num_key_value_heads: int | None = Field(None, ge=1, description="heads of keys and values; default: as of queries")
    head_dim: int | None = Field(None, ge=1, description="width of a head; default: hidden_size / num_attention_heads")
    vocab_size: int = Field(ge=1, description="tokens, rows of the embedding")
    tie_word_embeddings: bool = Field(False, description="whether the head is the embedding")
    max_position_embeddings: int = Field(ge=1, description="tokens of the longest text")

    @property
    def queries(self) -> int:
        """Width of the queries of all heads."""
        return self.num_attention_heads * (self.head_dim or self.hidden_size // self.num_attention_heads)

    @property
    def keys(self) -> int:
        """Width of the keys of all heads."""
        heads = self.num_key_value_heads or self.num_attention_heads
        return self.queries // self.num_attention_heads * heads

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one block."""
        width, inner = self.hidden_size, self.intermediate_size
        attention = [(width, self.queries), (width, self.keys), (width, self.keys), (self.queries, width)]
        return [*attention, (width, inner), (width, inner), (inner, width)]

    @property
    def block(self) -> int:
        """Parameters of one block."""
        return sum(one * other for one, other in self.linears) + 2 * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters, but for biases and what few families have beside these."""
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.block + tables + self.hidden_size


@dataclass(frozen=True)
class Shape:
    """The model's sizes; parameter counts by what happens to them.

    Attributes:
        total: all parameters; `trained`: those that train, an adapter's included.
        linear: those of linear layers, but for the head.
        embedding: rows times width of the embedding.
        queries: width of the queries of all heads; `keys`: of their keys.
        trained_layers: layers that a gradient passes through.
        stored_bytes: of each number in the file.
        tied: whether the head is the embedding.
        norms_train: whether norms must keep what they normed.
        keeps_inputs: whether linear layers must keep their inputs.
    """

    total: int
    trained: int
    linear: int
    embedding: int
    hidden: int
    queries: int
    keys: int
    inner: int
    layers: int
    trained_layers: int
    vocabulary: int
    stored_bytes: int
    tied: bool
    norms_train: bool
    keeps_inputs: bool


def shape_of(start: Weights | Dimensions, tune: Tune) -> Shape:
    """Sizes with the tuner's parameters.

    Raises:
        InputError: no configuration there, or a tuner that does not fit the model.
    """
    if isinstance(start, Dimensions):
        return _computed(start, tune)
    config = configuration(start)
    return _counted(json.dumps(config.to_dict(), default=str), tune.model_dump_json(), stored_dtype(start).itemsize)


def dimensions_of(start: Weights) -> Dimensions:
    """The sizes of a model that is here.

    Raises:
        InputError: it is no decoder of the kind that these sizes describe.
    """
    text = configuration(start).get_text_config()
    found = {name: getattr(text, name, None) for name in Dimensions.model_fields}
    try:
        return Dimensions.model_validate({name: value for name, value in found.items() if value is not None})
    except ValueError:
        raise InputError(
            "the model's configuration does not name the sizes of a decoder",
            where=start.model,
            fix="name a causal language model like Llama or Qwen",
        ) from None


@lru_cache(maxsize=64)
def _counted(config_json: str, tune_json: str, stored_bytes: int) -> Shape:
    config = AutoConfig.for_model(**json.loads(config_json))
    text, tune = config.get_text_config(), TypeAdapter(Tune).validate_json(tune_json)
    with BUILDING, torch.device("meta"):
        model = answering_class(config).from_config(config, dtype=torch.float32)
        embedding = model.get_input_embeddings().weight.numel()
        head = model.get_output_embeddings()
        linear = sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Linear) and one is not head)
        tied = head is not None and head.weight is model.get_input_embeddings().weight
        total = sum(weight.numel() for weight in model.parameters())
        trained, layers = _trained(model, tune, text)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        total=total,
        trained=trained,
        linear=linear,
        embedding=embedding,
        hidden=text.hidden_size,
        queries=text.num_attention_heads * head_width,
        keys=_heads_width(text),
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        layers=text.num_hidden_layers,
        trained_layers=layers,
        vocabulary=text.vocab_size,
        stored_bytes=stored_bytes,
        tied=tied,
        **_keeps(tune),
    )


def _computed(sizes: Dimensions, tune: Tune) -> Shape:
    """The same by arithmetic; base models are stored in 16 bits."""
    layers, block = sizes.num_hidden_layers, sizes.block
    through = layers
    if isinstance(tune, Full):
        trained = sizes.parameters
    elif isinstance(tune, Freeze):
        through = layers - tune.frozen_layers if tune.frozen_layers is not None else tune.trainable_layers
        trained = through * block
    elif isinstance(tune, Lora | QLora):
        trained = layers * sum(tune.rank * (one + other) for one, other in sizes.linears)
    else:
        raise TypeError(f"sizes alone do not say what {tune.name} trains")
    return Shape(
        total=sizes.parameters,
        trained=trained,
        linear=layers * (block - 2 * sizes.hidden_size),
        embedding=sizes.vocab_size * sizes.hidden_size,
        hidden=sizes.hidden_size,
        queries=sizes.queries,
        keys=sizes.keys,
        inner=sizes.intermediate_size,
        layers=layers,
        trained_layers=through,
        vocabulary=sizes.vocab_size,
        stored_bytes=2,
        tied=sizes.tie_word_embeddings,
        **_keeps(tune),
    )


def _keeps(tune: Tune) -> dict[str, bool]:
    virtual = isinstance(tune, Prompt | PTuning | Prefix)
    return {"norms_train": isinstance(tune, Full | Freeze), "keeps_inputs": not virtual and tune.name != "ia3"}


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
