"""A plain Hugging Face folder: what transformers, PEFT, vLLM and most other programs load."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nacre.base.errors import InputError
from nacre.model.export import Reader, Source
from nacre.model.export.merged import MERGED, refuse_unmergeable, save_merged
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Weights


class HuggingFace:
    """Merged weights, or the adapter alone; the tokenizer with its chat template in both."""

    precisions = ("stored", "float32", "bfloat16", "float16")

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        weights = source.weights
        if not source.adapter:
            refuse_unmergeable(weights, MERGED)
            save_merged(weights, folder, precision)
            return ["its adapter was added to the weights"] if weights.adapter else []
        if weights.adapter is None or weights.several:
            what = "it has several adapters" if weights.several else "it has no adapter"
            raise InputError(f"{what}, so none can be written", where=weights.folder, fix="leave --adapter out")
        if precision != "stored":
            what = "an adapter is written as it is stored"
            raise InputError(what, where="--precision", fix="leave --precision or --adapter out")
        for path in sorted(weights.adapter.iterdir()):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
        load_tokenizer(weights).save_pretrained(folder)
        return [f"an adapter alone: it answers on {weights.model}, which its adapter_config.json names"]

    def reader(self, source: Source, folder: Path) -> Reader:
        """Loaded by transformers, and PEFT for an adapter."""
        if source.adapter:
            return read_by(load_model(source.weights.changed(adapter=folder)))
        return read_by(load_model(Weights(identity=str(folder), model=str(folder))))


def read_by(model: Any) -> Reader:
    """A causal model of transformers as a reader."""

    def read(ids: Sequence[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits_1TV = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits
        found: NDArray[np.float32] = logits_1TV[0].float().cpu().numpy()
        return found

    return read
