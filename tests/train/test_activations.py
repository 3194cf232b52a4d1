"""What the estimate says that a layer keeps, held against what autograd keeps of a real one."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nacre.model.tuners import apply
from nacre.records.tune import Freeze, Full, Lora, Tune
from nacre.train.activations import Pass, layer_bytes
from nacre.train.arguments import halve_frozen
from nacre.train.padding import unpadded
from nacre.train.shape import Dimensions, shape_of

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 256,
}


def saved_bytes(layers: int, tokens: int, tune: Tune, mixed: bool) -> int:
    """Bytes of all tensors that one pass over a row leaves for the backward pass."""
    torch.manual_seed(0)
    model: Any = apply(LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers)), tune).model.train()
    if mixed:
        halve_frozen(model, tune)
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage  # held, or its place would be given to another
        return tensor

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids_BT = torch.arange(tokens)[None] % SIZES["vocab_size"]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed)
    with autocast, unpadded(model) as how, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        causal.get_decoder()(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)
    assert "packed" in how
    return sum(storage.nbytes() for storage in seen.values())


@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("tune", [Full(), Lora(rank=2), Lora(rank=2, dropout=0.1)], ids=["full", "lora", "dropout"])
def test_a_layer_keeps_what_is_counted(tune: Tune, mixed: bool) -> None:
    tokens = (64, 128)
    # the difference of lengths has no weights in it, that of depths no embedding
    each = [[saved_bytes(layers, count, tune, mixed) for count in tokens] for layers in (1, 2)]
    slopes = [(longer - shorter) / (tokens[1] - tokens[0]) for shorter, longer in each]
    shape = shape_of(Dimensions(**SIZES, num_hidden_layers=1), tune)
    one = Pass(tokens=1, labelled=1, mixed=mixed, cpu=True, halved=isinstance(tune, Lora), checkpointing=False)
    assert layer_bytes(shape, tune, one) == pytest.approx(slopes[1] - slopes[0], rel=0.04)


def test_layers_below_all_that_trains_keep_nothing() -> None:
    shallow, deep = (saved_bytes(layers, 64, Freeze(trainable_layers=1), False) for layers in (1, 3))
    assert deep == shallow
