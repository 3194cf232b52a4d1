"""The settings of a tuner in PEFT's words, checked against the model's modules."""

from collections.abc import Callable, Sequence
from typing import Any

from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
)
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
from torch import nn

from nacre.base.errors import InputError, nearest
from nacre.model.load import REWARD_TASK, judges
from nacre.model.pictures import sight_pattern
from nacre.records.tune import AdaLora, Adapter, Ia3, Lora, Oft, Prefix, Prompt, PTuning, QLora, Tune

PEFT_TYPES = {  # what the saved adapter of a tuner is
    "lora": "LORA",
    "qlora": "LORA",
    "adapter": "LORA",
    "adalora": "ADALORA",
    "ia3": "IA3",
    "oft": "OFT",
    "prompt": "PROMPT_TUNING",
    "p-tuning": "P_TUNING",
    "prefix": "PREFIX_TUNING",
}
WRITERS = ("o_proj", "down_proj", "out_proj", "dense", "dense_4h_to_h", "c_proj", "fc2", "wo", "w2")
CAUSAL = {"task_type": "CAUSAL_LM"}


def adapter_config(model: Any, tune: Tune) -> tuple[Any, str]:
    """PEFT's configuration for this tuner, and a sentence that says what trains.

    Raises:
        InputError: a target names no linear module, or the tuner does not fit the modules.
    """
    config, what = _MAKERS[tune.name](model, tune)
    if (sight := sight_pattern(model)) and not config.is_prompt_learning:
        config.exclude_modules = sight  # what sees stays as it is
    if judges(model):
        if config.is_prompt_learning:
            fix = "tune with lora, or another tuner that changes the model's modules"
            raise InputError("learned prompts do not make a reward model", where="tune", fix=fix)
        config.task_type = REWARD_TASK  # PEFT then trains and saves the head too
        what += ", and the head"
    return config, what


def _lora(model: Any, tune: Lora | QLora) -> tuple[Any, str]:
    for name in tune.modules_to_save:
        _known(name, sorted({path.rsplit(".", 1)[-1] for path, _ in model.named_modules() if path}), "modules_to_save")
    init = tune.init if isinstance(tune, Lora) else "default"
    config = LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha or 2 * tune.rank,
        lora_dropout=tune.dropout,
        target_modules=_targets(model, tune.target),
        use_rslora=tune.rslora,
        use_dora=tune.dora,
        init_lora_weights=True if init == "default" else init,
        modules_to_save=list(tune.modules_to_save) or None,
        ensure_weight_tying=_saves_tied(model, tune.modules_to_save),
        **CAUSAL,
    )
    words = ["rank-stabilised"] * tune.rslora + ["DoRA"] * tune.dora + [init] * (init != "default")
    variant = f" ({', '.join(words)})" if words else ""
    base = f" on {tune.bits}-bit weights" if isinstance(tune, QLora) else ""
    return config, f"LoRA rank {tune.rank}{variant}{base}"


def _saves_tied(model: Any, names: Sequence[str]) -> bool:
    """Whether the embedding trains whole and the head is the same matrix: then it must stay the same."""
    embedding = model.get_input_embeddings()
    own = [path.rsplit(".", 1)[-1] for path, module in model.named_modules() if module is embedding]
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False)) and any(n in names for n in own)


def _bottleneck(model: Any, tune: Adapter) -> tuple[Any, str]:
    linear = _linear(model)
    for name in tune.target:
        _known(name, linear, "target")
    targets = list(tune.target) or [name for name in WRITERS if name in linear]
    if not targets:
        raise InputError(
            "no output projection of a usual name was found", where="tune.target", fix=f"name some of {_list(linear)}"
        )
    config = LoraConfig(
        r=tune.width,
        lora_alpha=tune.scale * tune.width,  # PEFT divides by the rank
        lora_dropout=tune.dropout,
        target_modules=targets,
        **CAUSAL,
    )
    return config, f"linear bottlenecks of width {tune.width} beside {_list(targets)}"


def _adalora(model: Any, tune: AdaLora) -> tuple[Any, str]:
    start = tune.start_rank or max(tune.rank + 1, round(1.5 * tune.rank))
    config = AdaLoraConfig(
        init_r=start,
        target_r=tune.rank,
        lora_alpha=tune.alpha or 2 * tune.rank,
        lora_dropout=tune.dropout,
        orth_reg_weight=tune.orthogonal,
        target_modules=_targets(model, tune.target),
        total_step=1,  # both are set when the number of steps is known
        tinit=0,
        tfinal=0,
        **CAUSAL,
    )
    return config, f"AdaLoRA from rank {start} to a mean rank of {tune.rank}"


def _ia3(model: Any, tune: Ia3) -> tuple[Any, str]:
    linear = _linear(model)
    kind = model.config.model_type
    for name in (*tune.target, *tune.feedforward):
        _known(name, linear, "target")
    known = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind)
    if not tune.target and known is None:
        raise InputError(
            f"there is no usual choice of modules for IA3 in a model of type {kind}",
            where="tune.target",
            fix=f"name some of {_list(linear)}, and in feedforward those whose input is to be scaled",
        )
    usual = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, [])
    targets = list(tune.target) or list(known or [])
    inner = list(tune.feedforward) or [name for name in usual if name in targets]
    outside = [name for name in inner if name not in targets]
    if outside:
        raise InputError(f"{_list(outside)} is no target", where="tune.feedforward", fix="name it in target too")
    return IA3Config(target_modules=targets, feedforward_modules=inner, **CAUSAL), f"IA3 factors on {_list(targets)}"


def _oft(model: Any, tune: Oft) -> tuple[Any, str]:
    targets = _targets(model, tune.target)
    widths = {
        module.in_features
        for path, module in _linear_modules(model)
        if targets == "all-linear" or path.rsplit(".", 1)[-1] in targets
    }
    uneven = sorted(width for width in widths if width % tune.block_size)
    if uneven:
        fitting = [size for size in range(2, max(widths) + 1) if not any(width % size for width in widths)]
        raise InputError(
            f"blocks of {tune.block_size} do not divide the modules' {', '.join(map(str, uneven))} inputs",
            where="tune.block_size",
            fix=f"choose one of {', '.join(map(str, fitting[:8]))}" if fitting else "name fewer modules in target",
        )
    config = OFTConfig(
        r=0, oft_block_size=tune.block_size, module_dropout=tune.dropout, target_modules=targets, **CAUSAL
    )
    return config, f"OFT in blocks of {tune.block_size}"


def _prompt(model: Any, tune: Prompt) -> tuple[Any, str]:
    # Beginning at words that are there keeps the model's first answers whole; numbers of chance do not.
    config = PromptTuningConfig(num_virtual_tokens=tune.tokens, prompt_tuning_init="SAMPLE_VOCAB", **CAUSAL)
    return config, f"{tune.tokens} virtual tokens"


def _p_tuning(model: Any, tune: PTuning) -> tuple[Any, str]:
    config = PromptEncoderConfig(num_virtual_tokens=tune.tokens, encoder_hidden_size=tune.width, **CAUSAL)
    return config, f"{tune.tokens} virtual tokens through a network of width {tune.width}"


def _prefix(model: Any, tune: Prefix) -> tuple[Any, str]:
    return PrefixTuningConfig(num_virtual_tokens=tune.tokens, **CAUSAL), f"keys and values of {tune.tokens} tokens"


_MAKERS: dict[str, Callable[..., tuple[Any, str]]] = {
    "lora": _lora,
    "qlora": _lora,
    "adapter": _bottleneck,
    "adalora": _adalora,
    "ia3": _ia3,
    "oft": _oft,
    "prompt": _prompt,
    "p-tuning": _p_tuning,
    "prefix": _prefix,
}


def _targets(model: Any, target: tuple[str, ...]) -> Any:
    if target in (("all-linear",), ("all",)):
        return "all-linear"
    for name in target:
        _known(name, _linear(model), "target")
    return list(target)


def _linear_modules(model: Any) -> list[tuple[str, Any]]:
    """Linear layers of the model but its head."""
    head = model.get_output_embeddings()
    return [(p, module) for p, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]


def _linear(model: Any) -> list[str]:
    return sorted({path.rsplit(".", 1)[-1] for path, module in model.named_modules() if isinstance(module, nn.Linear)})


def _known(name: str, names: Sequence[str], key: str) -> None:
    if name in names:
        return
    close = nearest(name, names)
    hint = f"did you mean '{close}'? " if close else ""
    what = "LoRA target '{}' is no linear module" if key == "target" else "there is no module '{}'"
    raise InputError(what.format(name), where=f"tune.{key}", fix=f"{hint}Known: {_list(names)}")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
