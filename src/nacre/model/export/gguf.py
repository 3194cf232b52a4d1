"""GGUF, the file that llama.cpp and what is built on it load: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The file is written by the `gguf` package. Known here are decoders of Llama's shape: Llama, Mistral, Qwen2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from nacre.base.errors import InputError
from nacre.model.building import BUILDING
from nacre.model.export import Reader, Source
from nacre.model.export.gguf_tokens import add_tokenizer
from nacre.model.export.hf import read_by
from nacre.model.export.merged import merged_model, refuse_unmergeable
from nacre.model.load import load_tokenizer

FILE = "model.gguf"
_KINDS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}  # transformers' name, GGUF's
_TYPES = {  # precision: the type of matrices, the name of the whole file's
    "float16": ("F16", "MOSTLY_F16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "float32": ("F32", "ALL_F32"),
}


@dataclass(frozen=True)
class _Heads:
    """What the order of rows in query and key matrices depends on; `turned` where GGUF has another one."""

    queries: int
    keys: int
    turned: bool


class Gguf:
    """One file, `model.gguf`, tokenizer and chat template inside."""

    precisions = tuple(_TYPES)

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        refuse_unmergeable(source.weights, "GGUF")
        model, tokenizer = merged_model(source.weights), load_tokenizer(source.weights)
        kind = _KINDS.get(model.config.model_type)
        if kind is None:
            raise InputError(
                f"models of the kind {model.config.model_type} are not written as GGUF",
                where=source.weights.folder,
                fix=f"known: {', '.join(_KINDS)}; or export with --to hf and convert it with llama.cpp's own script",
            )
        writer = gguf.GGUFWriter(str(folder / FILE), kind)
        notes = _describe(writer, model.config, source.name)
        writer.add_file_type(getattr(gguf.LlamaFileType, _TYPES[precision][1]))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        notes += add_tokenizer(writer, tokenizer, model.config.vocab_size)
        for name, values in _tensors(model, kind):
            _add(writer, name, values, _TYPES[precision][0])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return notes

    def reader(self, source: Source, folder: Path) -> Reader:
        """Read back by transformers, which turns every tensor into 32 bits."""
        with BUILDING:
            model = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=FILE, dtype="float32")
        return read_by(model.eval())


def _describe(writer: Any, config: Any, name: str) -> list[str]:
    """The model's shape, in GGUF's words."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(config.vocab_size)
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window and window < config.max_position_embeddings:
        return [f"GGUF has no attention window here: texts of more than {window} tokens are answered otherwise"]
    return []


def _rope(config: Any) -> Mapping[str, Any]:
    """How positions are turned.

    Raises:
        InputError: in a way that is not written here.
    """
    found = {"rope_type": "default", "rope_theta": 10000.0} | dict(getattr(config, "rope_parameters", None) or {})
    if found["rope_type"] != "default":
        raise InputError(
            f"positions scaled by the rule {found['rope_type']} are not written as GGUF",
            where="config.json",
            fix="export with --to hf and convert it with llama.cpp's own script",
        )
    return found


def _tensors(model: Any, kind: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and values of every tensor of the file."""
    config = model.config
    architecture = next(one for one, named in gguf.MODEL_ARCH_NAMES.items() if named == kind)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = _Heads(config.num_attention_heads, config.num_key_value_heads, kind == "llama")
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp takes the embeddings where there is no head
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise InputError(
                f"GGUF has no place for the tensor {name}", where=config.model_type, fix="export with --to hf"
            )
        yield found, _turned(parameter.float().numpy(), name, heads)


def _turned(values: NDArray[np.float32], name: str, heads: _Heads) -> NDArray[np.float32]:
    """llama.cpp turns neighbouring pairs of a head's numbers where transformers turns halves: rows change places."""
    if not heads.turned or not any(part in name for part in ("q_proj.", "k_proj.")):
        return values
    count = heads.queries if "q_proj." in name else heads.keys
    split = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


def _add(writer: Any, name: str, values: NDArray[np.float32], kind: str) -> None:
    """Matrices in the type asked for, where their rows can be cut into its blocks; vectors in 32 bits."""
    wanted = getattr(gguf.GGMLQuantizationType, kind)
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    if values.ndim < 2 or values.shape[-1] % block:
        wanted = gguf.GGMLQuantizationType.F32 if values.ndim < 2 else gguf.GGMLQuantizationType.F16
    data = np.ascontiguousarray(values)
    if wanted == gguf.GGMLQuantizationType.F16:
        data = data.astype(np.float16)
    elif wanted != gguf.GGMLQuantizationType.F32:
        data = gguf.quants.quantize(data, wanted)
    writer.add_tensor(name, data, raw_dtype=wanted)
