"""Four bits a weight: NF4 or FP4 by bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314), in blocks with scales.

Embeddings, head and norms stay as they are stored. What it saves is memory: on a CPU the weights are turned back into
numbers at every product, so answers come slower.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from transformers import AutoModelForCausalLM

from nacre.base.errors import InputError
from nacre.model.building import BUILDING
from nacre.model.load import pick_device
from nacre.model.quantised import keep_packing, quantisation
from nacre.model.smaller.base import Rows, Way, plain_linear
from nacre.records import Compressing
from nacre.records.tune import QLora

_SOURCE = "gptqmodel, the library for it, is source alone, to be compiled against the torch that is there: untried here"


class Int4(Way):
    """Round the linear layers to 16 levels in blocks."""

    name = "int4"
    methods = ("nf4", "fp4")
    package, extra = "bitsandbytes", "qlora"
    refused: ClassVar[Mapping[str, str]] = {
        "gptq": _SOURCE,
        "awq": f"autoawq is not kept up any more, and {_SOURCE}",
    }

    def write(self, model: Any, folder: Path, asked: Compressing, rows: Rows) -> list[str]:
        """See `Way.write`."""
        if not plain_linear(model):
            fix = "--to pruned or merged"
            raise InputError("the model has no linear layers to round", where=type(model).__name__, fix=fix)
        before, dtype = sum(weight.numel() for weight in model.parameters()), model.dtype
        given = quantisation(QLora(quant="nf4" if asked.method == "nf4" else "fp4"), dtype)
        with TemporaryDirectory(dir=folder.parent) as plain:
            model.save_pretrained(plain)
            with BUILDING:
                held = AutoModelForCausalLM.from_pretrained(
                    plain,
                    quantization_config=given,
                    dtype=dtype,
                    device_map={"": str(pick_device())},
                    use_safetensors=True,
                    trust_remote_code=False,
                )
            keep_packing(held).save_pretrained(str(folder))
        rounded = sum(module.weight.numel() for _, module in plain_linear(model) if module is not _head(model))
        return [f"{asked.method}: {rounded:,} of {before:,} weights in 4 bits; embeddings, head and norms as they were"]


def _head(model: Any) -> Any:
    return model.get_output_embeddings()
