"""OpenVINO's form: a graph whose keys and values are its state, as its own programs for language models load it.

Inputs are ``input_ids``, ``attention_mask`` (whole text so far) and ``position_ids``, each [rows, tokens], and
``beam_idx`` [rows], the row of the state that each row goes on with; the output is ``logits`` [rows, tokens, words].

Shapes: B rows, T tokens, S tokens so far and these, P tokens so far, H heads of keys and values, D size of a head.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino._offline_transformations import apply_make_stateful_transformation
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from nacre.base.errors import InputError
from nacre.model.export import Reader, Source
from nacre.model.export.merged import merged_model, refuse_unmergeable
from nacre.model.load import load_tokenizer

GRAPH = "openvino_model.xml"
# Of tracing and of the converter, where a model does what they do not know.
_UNKNOWN = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)


class OpenVino:
    """`openvino_model.xml` and `.bin`, the tokenizer beside it."""

    precisions = ("float16", "float32")

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        refuse_unmergeable(source.weights, "OpenVINO")
        model = merged_model(source.weights)
        try:
            graph = _graph(model)
        except _UNKNOWN as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"OpenVINO cannot hold this model: {reason}",
                where=source.weights.folder,
                fix="export it with --to ctranslate2 or gguf",
            ) from error
        openvino.save_model(graph, str(folder / GRAPH), compress_to_fp16=precision == "float16")
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        load_tokenizer(source.weights).save_pretrained(folder)
        return []

    def reader(self, source: Source, folder: Path) -> Reader:
        """Loaded by OpenVINO on the CPU, computing in 32 bits."""
        compiled = openvino.Core().compile_model(
            str(folder / GRAPH), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        )
        request = compiled.create_infer_request()

        def read(ids: Sequence[int]) -> NDArray[np.float32]:
            request.reset_state()
            found: NDArray[np.float32] = step(request, list(ids), 0)
            return found

        return read


def step(request: Any, ids: list[int], before: int) -> NDArray[np.float32]:
    """Logits of some tokens behind `before` others, which the request has read already: [tokens, vocabulary]."""
    count = len(ids)
    found = request.infer(
        {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, before + count), dtype=np.int64),
            "position_ids": np.arange(before, before + count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
    )
    logits_TV: NDArray[np.float32] = np.array(found["logits"][0], dtype=np.float32)
    return logits_TV


class _Step(nn.Module):
    """A model that is given its keys and values, and gives them back longer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Logits, and each layer's keys and values."""
        cache = DynamicCache()
        for keys_BHPD, values_BHPD in zip(past[::2], past[1::2], strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(keys_BHPD, values_BHPD)
            layer.keys, layer.values = keys_BHPD, values_BHPD
            cache.layers.append(layer)
        output = self.model(
            input_ids=input_ids,
            attention_mask=_mask(input_ids, attention_mask, past[0].dtype),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        held = [tensor for layer in output.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (output.logits, *held)


def _mask(input_ids_BT: torch.Tensor, known_BS: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Added to the products of queries and keys: 0 where a token may look, very little where not."""
    places_S = torch.arange(known_BS.shape[1], device=known_BS.device)
    asking_T = places_S[known_BS.shape[1] - input_ids_BT.shape[1] :]
    seen_BTS = (places_S[None, None, :] <= asking_T[None, :, None]) & (known_BS[:, None, :] > 0)
    hidden_BTS = torch.where(seen_BTS, 0.0, torch.finfo(dtype).min).to(dtype)
    return hidden_BTS[:, None]


def _graph(model: Any) -> Any:
    """The model as a graph with state."""
    config = model.config
    model.set_attn_implementation("eager")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    ids_BT = torch.ones(2, 3, dtype=torch.long)
    example = {
        "input_ids": ids_BT,
        "attention_mask": torch.ones(2, 5, dtype=torch.long),
        "position_ids": torch.arange(2, 5).expand(2, -1),
        "past": [torch.randn(2, heads, 2, head) for _ in range(2 * layers)],
    }
    with torch.no_grad():
        graph = openvino.convert_model(_Step(model), example_input=example)
    names = [f"{place}.{kind}" for place in range(layers) for kind in ("key", "value")]
    for one, name in zip(graph.inputs, ["input_ids", "attention_mask", "position_ids", *names], strict=True):
        one.get_tensor().set_names({f"past_key_values.{name}" if name in names else name})
        rank = -1 if name not in names else 4
        shape = [-1, -1] if rank < 0 else [-1, heads, -1, head]
        one.get_node().set_partial_shape(openvino.PartialShape(shape))
    for one, name in zip(graph.outputs, ["logits", *names], strict=True):
        one.get_tensor().set_names({f"present.{name}" if name in names else name})
    _reordered(graph, names)
    graph.validate_nodes_and_infer_types()
    pairs = {f"past_key_values.{name}": f"present.{name}" for name in names}
    apply_make_stateful_transformation(graph, pairs)
    _begun_empty(graph, heads, head)
    graph.validate_nodes_and_infer_types()
    return graph


def _reordered(graph: Any, names: Sequence[str]) -> None:
    """Rows of the state are taken in the order of a further input, as searches over several answers need it."""
    opset = openvino.opset13
    order_B = opset.parameter(name="beam_idx", dtype=np.int32, shape=openvino.PartialShape([-1]))
    order_B.output(0).get_tensor().add_names({"beam_idx"})
    graph.add_parameters([order_B])
    for name in names:
        past = graph.input(f"past_key_values.{name}")
        users = list(past.get_target_inputs())
        taken = opset.gather(past.get_node(), order_B, opset.constant(0))
        for user in users:
            user.replace_source_output(taken.output(0))


def _begun_empty(graph: Any, heads: int, head: int) -> None:
    """Before the first token the state has as many rows as the input, and no token."""
    opset = openvino.opset13
    shape_of = opset.shape_of(graph.input("input_ids").get_node(), output_type="i64")
    rows_1 = opset.gather(shape_of, opset.constant([0]), opset.constant(0))
    rest = [opset.constant(np.array([size], dtype=np.int64)) for size in (heads, 0, head)]
    shape = opset.concat([rows_1, *rest], axis=0)
    for one in graph.get_ops():
        if one.get_type_name() == "ReadValue":
            one.set_arguments([opset.broadcast(opset.constant(0.0, dtype=one.get_output_element_type(0)), shape)])
