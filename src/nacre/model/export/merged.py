"""A version as one model without an adapter, in memory and as a folder that other programs' converters read."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from nacre.base.errors import InputError
from nacre.model.align import aligns
from nacre.model.building import BUILDING
from nacre.model.load import is_reward_model, load_model, load_tokenizer, model_type, stored_dtype
from nacre.model.pictures import sees
from nacre.model.prompts import learns_prompts
from nacre.model.quantised import stored_method
from nacre.records import Weights

MERGED = "a merged model"  # the form whose name this is
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def refuse_unmergeable(weights: Weights, form: str) -> None:
    """Look at a version before anything is loaded.

    Raises:
        InputError: it is no single model with all its weights: several adapters behind a router, virtual tokens, a
            reward model, one that reads pictures, or weights that are held in few bits already.
    """
    where = weights.folder
    if weights.several:
        fix = "export a version with one adapter; nacre combine --by merge makes one"
        raise InputError(f"{weights.several} are no single model, which {form} needs", where=where, fix=fix)
    if weights.adapter is not None and learns_prompts(weights.adapter):
        fix = "export it with --to hf --adapter"
        raise InputError(f"virtual tokens cannot be merged into the weights, as {form} needs it", where=where, fix=fix)
    if is_reward_model(weights):
        raise InputError("a reward model answers nothing", where=where, fix="export a version that answers")
    kind = model_type(weights.model)
    if aligns(kind) or (sees(kind) and form != MERGED):
        what, fix = "it reads pictures", "its folder is in Hugging Face layout already; --to hf writes one that answers"
        raise InputError(f"{what}, for which {form} was never tried", where=where, fix=fix)
    if stored_method(weights.model):
        what, fix = "its weights are held in few bits already", "export the version that it was made of"
        raise InputError(f"{what}, and {form} needs all of them", where=where, fix=fix)


def merged_model(weights: Weights) -> Any:
    """The model on the CPU in 32 bits, with its adapter added to its weights."""
    model = load_model(weights.changed(adapter=None), dtype=torch.float32).to("cpu")
    if weights.adapter is not None:
        with BUILDING:
            model = PeftModel.from_pretrained(model, str(weights.adapter)).merge_and_unload()
    return model.eval()


def save_merged(weights: Weights, folder: Path, precision: str) -> None:
    """Write model, tokenizer and chat template in Hugging Face layout; `precision` may be ``stored``."""
    model = merged_model(weights)
    dtype = stored_dtype(weights) if precision == "stored" else DTYPES[precision]
    model.to(dtype).save_pretrained(folder)
    tokenizer = load_tokenizer(weights)
    tokenizer.save_pretrained(folder)
    if hasattr(tokenizer, "pictures"):
        tokenizer.pictures.save(folder)
