"""Load models and tokenisers from local folders: safetensors only, no remote code."""

from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from nacre.base.errors import InputError, NacreError
from nacre.model.chat import ensure_template
from nacre.records import Weights

transformers_logging.disable_progress_bar()  # a model's files load in a blink beside what nacre shows bars for


def load_tokenizer(weights: Weights) -> Any:
    """The tokenizer beside the weights; one without a chat template gets nacre's default one.

    Raises:
        InputError: no tokenizer there.
    """
    own = weights.adapter is not None and (weights.adapter / "tokenizer_config.json").exists()
    folder = str(weights.adapter) if own else weights.model
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unloadable("tokenizer", folder, error) from error
    ensure_template(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(weights: Weights, *, train: bool = False, dtype: torch.dtype | None = None) -> Any:
    """The model in evaluation mode on the best device, or, with `train`, ready to be tuned on the CPU.

    Args:
        weights: where they are.
        train: leave the model on the CPU, in training mode, with a trainable adapter.
        dtype: default: as stored on a GPU; float32 on a CPU, which most do not compute faster in less.

    Raises:
        InputError: no model there, or one that needs remote code.
        NacreError: the weights file is torn.
    """
    device = pick_device()
    wanted = dtype or (torch.float32 if device.type == "cpu" else "auto")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            weights.model, dtype=wanted, use_safetensors=True, trust_remote_code=False
        )
        if weights.adapter is not None:
            model = PeftModel.from_pretrained(model, str(weights.adapter), is_trainable=train)
    except SafetensorError as error:
        raise NacreError(
            f"the weights file is torn or no safetensors file: {error}", where=weights.folder, fix="restore the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise _unloadable("model", weights.model, error) from error
    if train:
        return model.train()
    model.eval()
    return model.to(device)


def pick_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def decoder_layers(model: Any) -> Any:
    """The list of transformer blocks, whatever wraps them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.get_decoder().layers


def parameter_count(weights: Weights) -> int:
    """Number of parameters, from the configuration alone: nothing is loaded."""
    config = _config(weights)
    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(config).num_parameters())


def positions(weights: Weights) -> int | None:
    """How many positions the model knows, from its configuration; None where it does not say."""
    found = getattr(_config(weights).get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def stored_dtype(weights: Weights) -> torch.dtype:
    """What the configuration says the weights are stored in; float32 where it does not say."""
    return _config(weights).dtype or torch.float32


def _config(weights: Weights) -> Any:
    try:
        return AutoConfig.from_pretrained(weights.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unloadable("model configuration", weights.model, error) from error


def _unloadable(what: str, where: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    return InputError(f"cannot load the {what}: {reason}", where=where, fix="name a folder in Hugging Face layout")
