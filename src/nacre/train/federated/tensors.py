"""Adapters as named arrays, which is what travels, and as folders, which is what trains."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from nacre.base.files import staged_folder
from nacre.base.hashing import content_hash, sha256_file
from nacre.model.tuners import save
from nacre.records import Weights
from nacre.records.tune import Lora
from nacre.train.tuner import INITIAL, tuned_model

TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SCALING = ("r", "lora_alpha", "use_rslora", "use_dora")  # of PEFT's configuration: what the same tensors mean by it

Arrays = dict[str, np.ndarray[Any, Any]]
"""The tensors of an adapter by PEFT's names, in the order of the names, float32."""


def new_adapter(below: Weights, tune: Lora, folder: Path, seed: int) -> None:
    """Write the adapter that training would begin with; `folder` is replaced.

    Raises:
        InputError: the tuner does not fit the model.
    """
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    with staged_folder(folder) as staging:
        model = tuned_model(below, tune, staging, torch.float32).model
        save(model, staging, staging / INITIAL)


def read_adapter(folder: Path) -> Arrays:
    """The tensors of an adapter folder."""
    found = load_file(folder / TENSORS)
    return {name: np.ascontiguousarray(found[name], dtype=np.float32) for name in sorted(found)}


def write_adapter(folder: Path, like: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Weights:
    """Write an adapter of these tensors with the configuration of the adapter in `like`; `folder` is replaced.

    Returns:
        What it is known by, without the model that it sits on.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with staged_folder(folder) as staging:
        shutil.copy(like / CONFIG, staging / CONFIG)
        save_file(dict(arrays), staging / TENSORS, metadata={"format": "pt"})
    return Weights(identity=content_hash([sha256_file(folder / TENSORS)]), model="", adapter=folder)


def meaning(folder: Path) -> dict[str, Any]:
    """What the configuration of an adapter says of how its tensors are used."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return {name: config.get(name) for name in SCALING}


def length(arrays: Mapping[str, np.ndarray[Any, Any]], other: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Euclidean norm of the difference, over all numbers together."""
    return float(np.sqrt(sum(float(np.square(arrays[name] - other[name], dtype=np.float64).sum()) for name in other)))
