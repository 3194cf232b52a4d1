"""Weights held in 4 or 8 bits: a base by bitsandbytes while an adapter trains, and folders that were stored so."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.records import Weights
from nacre.records.manifest import MANIFEST
from nacre.records.tune import QLora


def quantisation(tune: QLora, dtype: torch.dtype) -> Any:
    """What transformers' loader must be told; products are computed in `dtype`.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "the tuner qlora needs bitsandbytes", where="tune", fix="pip install 'nacre[qlora]', or tune with lora"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every product that it computes in fp16
    if tune.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=tune.quant,
        bnb_4bit_use_double_quant=tune.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_packing(model: Any) -> Any:
    """Switch off bitsandbytes' repacking of 4-bit weights at the first product in evaluation mode on some CPUs.

    It rounds the scales and cannot be trained through afterwards, and a model that trains is asked in
    evaluation mode too: as its own teacher, or for the importance of its weights.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def answers_quantised(adapter: Path | None) -> QLora | None:
    """The tuner, where the manifest beside an adapter says that it is to be asked on a quantised base."""
    if adapter is None or not (adapter / MANIFEST).exists():
        return None
    written = json.loads((adapter / MANIFEST).read_text(encoding="utf-8"))
    tune = written.get("recipe", {}).get("tune", {})
    if tune.get("name") != "qlora" or tune.get("answers") != "quantised":
        return None
    return QLora.model_validate(tune)


READY = Table(  # what a model must go through after it was loaded from a folder that holds it in few bits
    "quantisation",
    {"bitsandbytes": "nacre.model.quantised:keep_packing", "torchao": "nacre.model.smaller.int8:make_ready"},
)


def stored_method(folder: str) -> str:
    """Who rounded the weights in a model's folder, by transformers' name; empty where they are whole."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # who loads the model says so
    found = config.get("quantization_config") if isinstance(config, dict) else None
    return str(found.get("quant_method", "")) if isinstance(found, dict) else ""


def check_installed(method: str, folder: str) -> None:
    """Make sure that weights which somebody rounded can be loaded here.

    Raises:
        InputError: the package is missing; names the extra.
    """
    extra = {"torchao": "smaller", "bitsandbytes": "qlora"}.get(method)  # the packages are named as the methods
    if extra and find_spec(method) is None:
        what = f"its weights are held in few bits by {method}, which is not installed"
        raise InputError(what, where=folder, fix=f"pip install 'nacre[{extra}]'")


def refuse_rounded(start: Weights) -> None:
    """Before a training: weights that `nacre compress` rounded cannot be trained on.

    Raises:
        InputError: they are such; says what to start from instead.
    """
    path = Path(start.folder) / MANIFEST
    if not stored_method(start.model) or not path.exists():
        return
    how = json.loads(path.read_text(encoding="utf-8")).get("compressed") or {}
    if how:
        raise InputError(
            f"what training starts from was rounded to {how.get('to')}, and rounded weights cannot take small steps",
            where=start.folder,
            fix="train from the version that it was made of (--from NUMBER), and compress what comes of that",
        )
