"""A base held in 4 or 8 bits by bitsandbytes, an optional dependency."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from nacre.base.errors import InputError
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
