"""Load models and tokenisers from local folders: safetensors only, no remote code."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from nacre.base.errors import InputError, NacreError
from nacre.model.align import aligns
from nacre.model.building import BUILDING
from nacre.model.chat import ensure_template
from nacre.model.ensemble import load_ensemble
from nacre.model.foreign import refuse_foreign
from nacre.model.pictures import Reader, see, sees
from nacre.model.prompts import learns_prompts, load_prompts
from nacre.model.quantised import READY, answers_quantised, check_installed, keep_packing, quantisation, stored_method
from nacre.model.routed import load_routed
from nacre.records import Weights
from nacre.records.tune import QLora
from nacre.records.weights import ENSEMBLE, ROUTER

REWARD_CLASS, REWARD_TASK = "ForSequenceClassification", "SEQ_CLS"  # transformers' and PEFT's words

transformers_logging.disable_progress_bar()  # a model's files load in a blink beside what nacre shows bars for
# PEFT asks by transformers' old name: nothing that whoever trains could change
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def load_tokenizer(weights: Weights) -> Any:
    """The tokenizer beside the weights; one without a chat template gets nacre's default one.

    Of a model that reads pictures it has a `nacre.model.pictures.Reader` as `pictures`; `aligns` says whether the model
    is one of two encoders.

    Raises:
        InputError: no tokenizer there.
    """
    own = weights.adapter is not None and (weights.adapter / "tokenizer_config.json").exists()
    folder = str(weights.adapter) if own else weights.model
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unloadable("tokenizer", folder, error) from error
    kind = model_type(weights.model)
    tokenizer.aligns = aligns(kind)
    if sees(kind) or tokenizer.aligns:
        tokenizer.pictures = Reader(weights.model)
    ensure_template(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(
    weights: Weights,
    *,
    train: bool = False,
    dtype: torch.dtype | None = None,
    quantised: QLora | None = None,
    rewards: bool = False,
) -> Any:
    """The model in evaluation mode on the best device, or, with `train`, ready to be tuned on the CPU.

    A model that is held in few bits, or stored so, is on the best device at once. Where an adapter's manifest asks for
    it, it is answered on the quantised base that it was trained on; else on the base as stored.

    Args:
        weights: where they are.
        train: leave the model on the CPU, in training mode, with a trainable adapter.
        dtype: default: as stored on a GPU; float32 on a CPU, which most do not compute faster in less.
        quantised: hold the base in as few bits as this tuner says.
        rewards: a model that gives an answer a number, with a new head where it has none; a reward model is always
            loaded as one.

    Raises:
        InputError: no model there, or one that needs remote code; bitsandbytes or torchao is needed and missing.
        NacreError: the weights file is torn.
    """
    device = pick_device()
    wanted = dtype or (torch.float32 if device.type == "cpu" else "auto")
    refuse_foreign(weights.model)
    bits = quantised or (None if train else answers_quantised(weights.adapter))
    stored = stored_method(weights.model)
    check_installed(stored, weights.model)
    given: dict[str, Any] = {"dtype": wanted, "use_safetensors": True, "trust_remote_code": False}
    if bits is not None:
        computed = torch.float32 if device.type == "cpu" else torch.bfloat16
        given |= {"quantization_config": quantisation(bits, computed), "device_map": {"": str(device)}}
    elif stored in READY.names():
        given["device_map"] = {"": str(device)}
    try:
        with BUILDING:
            if rewards or is_reward_model(weights):
                model = _with_reward_head(weights.model, given)
            else:
                model = _answering(weights, given, fixed=not train)
            if bits is not None:
                keep_packing(model)
            elif stored in READY.names():
                READY.load(stored)(model)
            if weights.adapter is not None:
                model = _with_adapter(model, weights.adapter, train)
    except SafetensorError as error:
        raise NacreError(
            f"the weights file is torn or no safetensors file: {error}", where=weights.folder, fix="restore the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise _unloadable("model", weights.model, error) from error
    if train:
        return model.train()
    model.eval()
    return model if "device_map" in given else model.to(device)


def _answering(weights: Weights, given: dict[str, Any], *, fixed: bool) -> Any:
    """A model that answers or is of two encoders; one that reads pictures knows their patches as words."""
    config = configuration(weights)
    model = answering_class(config).from_pretrained(weights.model, **given)
    if sees(config.model_type):
        see(model, Reader(weights.model), fixed=fixed)
    return model


def _with_adapter(model: Any, adapter: Path, train: bool) -> Any:
    if (adapter / ROUTER).exists():
        return load_routed(model, adapter)
    if (adapter / ENSEMBLE).exists():
        return load_ensemble(model, adapter)
    if learns_prompts(adapter):
        return load_prompts(model, adapter, train=train)
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=train)


def is_reward_model(weights: Weights) -> bool:
    """Whether it gives an answer a number instead of giving tokens probabilities, as its configuration says."""
    if weights.adapter is not None and (weights.adapter / "adapter_config.json").exists():
        return json.loads((weights.adapter / "adapter_config.json").read_text()).get("task_type") == REWARD_TASK
    return any(REWARD_CLASS in name for name in configuration(weights).architectures or ())


def judges(model: Any) -> bool:
    """Whether a loaded model is a reward model."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return REWARD_CLASS in type(plain).__name__


def _with_reward_head(folder: str, given: dict[str, Any]) -> Any:
    """transformers warns of a head that is not in the file; whoever asks for a new one knows that."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **given)
    finally:
        transformers_logging.set_verbosity(level)


def pick_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def decoder_layers(model: Any) -> Any:
    """The list of transformer blocks, whatever wraps them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.get_decoder().layers


def configuration(weights: Weights) -> Any:
    """The model's configuration.

    Raises:
        InputError: there is none, or it asks for what is refused (`refuse_foreign`).
    """
    refuse_foreign(weights.model)
    try:
        return AutoConfig.from_pretrained(weights.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unloadable("model configuration", weights.model, error) from error


def model_type(folder: str) -> str:
    """What transformers calls the kind of model in a folder; empty where that is not written there."""
    path = Path(folder) / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""  # whoever loads the model is told in full


def parameter_count(weights: Weights) -> int:
    """Number of parameters, from the configuration alone: nothing is loaded."""
    config = configuration(weights)
    with BUILDING, torch.device("meta"):
        return int(answering_class(config).from_config(config, dtype=torch.float32).num_parameters())


def answering_class(config: Any) -> Any:
    """transformers' class for models that answer: texts alone, or texts with pictures; or for two encoders."""
    if aligns(config.model_type):
        return AutoModel
    return AutoModelForImageTextToText if sees(config.model_type) else AutoModelForCausalLM


def positions(weights: Weights) -> int | None:
    """How many positions the model knows, from its configuration; None where it does not say."""
    found = getattr(configuration(weights).get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def stored_dtype(weights: Weights) -> torch.dtype:
    """What the configuration says the weights are stored in; float32 where it does not say."""
    return configuration(weights).dtype or torch.float32


def _unloadable(what: str, where: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    return InputError(f"cannot load the {what}: {reason}", where=where, fix="name a folder in Hugging Face layout")
