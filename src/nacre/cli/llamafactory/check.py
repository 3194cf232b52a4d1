"""From what was written to arguments that can be acted on; or one report of everything that cannot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nacre.base.errors import InputError, nearest
from nacre.cli.llamafactory.arguments import ALIASES, Arguments, kind_of
from nacre.cli.llamafactory.keys import KEYS, Idle, Refused
from nacre.model.templates import TEMPLATES
from nacre.train.optimizers import SCHEDULERS, problem

TRACKERS = ("tensorboard", "mlflow", "wandb")
STAGES = ("sft", "pt", "rm", "dpo", "kto")
CHOICES: Mapping[str, Sequence[str]] = {
    "stage": STAGES,
    "finetuning_type": ("lora", "freeze", "full", "oft"),
    "lr_scheduler_type": SCHEDULERS,
    "template": tuple(TEMPLATES),
    "pref_loss": ("sigmoid", "hinge", "ipo", "orpo", "simpo"),
    "quantization_type": ("nf4", "fp4"),
    "eval_strategy": ("no", "steps", "epoch"),
    "mix_strategy": ("concat", "interleave_under", "interleave_over"),
}
SHARES = {  # what transformers takes as a share of all steps too
    "eval_steps": "eval_strategy epoch, or a number of steps",
    "save_steps": "a number of steps",
    "logging_steps": "a number of steps",
}
INSTEAD = {  # values of LlamaFactory's that are not there, with what comes nearest
    ("stage", "ppo"): "stage dpo, on pairs of answers",
    ("pref_loss", "kto_pair"): "stage kto, on judged answers",
    ("mix_strategy", "interleave_once"): "concat, which too takes every row once",
    ("lr_scheduler_type", "cosine_with_min_lr"): "cosine",
    ("lr_scheduler_type", "reduce_lr_on_plateau"): "early_stopping_steps",
    ("lr_scheduler_type", "warmup_stable_decay"): "constant_with_warmup",
}


def to_arguments(found: Mapping[str, Any], where: str) -> tuple[Arguments, list[str]]:
    """Validate everything; returns the arguments, and a sentence for each key that has no effect here.

    Raises:
        InputError: one report that names every key and value that cannot be used, each with the nearest that can.
    """
    fields = Arguments.model_fields
    given = {key: _plain(key, value) for key, value in found.items() if key in fields and value is not None}
    if given.get("eval_strategy") is False:  # YAML 1.1 reads no as false
        given["eval_strategy"] = "no"
    problems, notes = _others(found)
    bad = {key: problem for key, problem in ((key, _choice(key, value)) for key, value in given.items()) if problem}
    problems += bad.values()
    arguments = None
    try:
        arguments = Arguments.model_validate(given)
    except ValidationError as error:
        for one in error.errors():
            key = str(one["loc"][0]) if one["loc"] else ""
            if key not in bad:
                problems.append(_wrong(key, one))
                bad[key] = ""
    problems += _together(found, {key: value for key, value in given.items() if key != "deepspeed" or key not in bad})
    if problems or arguments is None:
        raise report(problems, where)
    return arguments, notes


def report(problems: Sequence[str], where: str) -> InputError:
    """One error for all of them."""
    if len(problems) == 1:
        return InputError(problems[0], where=where, fix="change it; nacre train --help lists every argument")
    lines = "".join(f"\n  {problem}" for problem in problems)
    what = f"{len(problems)} arguments cannot be used as they are:{lines}"
    return InputError(what, where=where, fix="change them; nacre train --help lists every argument")


def _others(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Problems of unknown and of refused keys, and remarks on idle ones."""
    problems, notes = [], []
    for key, value in found.items():
        if key in Arguments.model_fields:
            continue
        entry = KEYS.get(key)
        if entry is None:
            close = nearest(key, [*Arguments.model_fields, *ALIASES, *KEYS])
            hint = f"did you mean '--{close}'?" if close else "no argument of that name is known"
            problems.append(f"unknown argument '--{key}': {hint}")
        elif _asks(value, entry.off):
            if isinstance(entry, Refused):
                problems.append(f"{key}: {value} is not supported: {entry.why}; instead: {entry.instead}")
            else:
                notes.append(f"{key}: {entry.why}")
    return problems, notes


def _plain(key: str, value: Any) -> Any:
    """A list is a text with commas, and a folder may be called 2024."""
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return str(value) if key.endswith("_dir") and isinstance(value, int | float) else value


def _asks(value: Any, off: tuple[Any, ...]) -> bool:
    return (value.lower() if isinstance(value, str) else value) not in off


def _choice(key: str, value: Any) -> str:
    """What is wrong with a value that must be one of a few; empty where it is one."""
    known = CHOICES.get(key)
    if known is None or value in known:
        return ""
    near = INSTEAD.get((key, str(value)))
    if near is None:
        close = nearest(str(value), known)
        near = f"did you mean '{close}'? Known: {', '.join(known)}" if close else f"one of {', '.join(known)}"
        if key == "template":
            near += "; or leave template out: the model's own is used"
    else:
        near = f"instead: {near}"
    return f"{key}: {value} is not supported: {near}"


def _wrong(key: str, error: Any) -> str:
    if error["type"] == "missing":
        return f"--{key} is missing: {Arguments.model_fields[key].description}"
    if key in SHARES and isinstance(error["input"], float) and 0 < error["input"] < 1:
        return f"{key}: {error['input']!r} as a share of all steps is not supported; instead: {SHARES[key]}"
    if key == "deepspeed":
        what = "a mapping" if isinstance(error["input"], Mapping) else repr(error["input"])
        return f"deepspeed: {what} is not supported; instead: the path of a DeepSpeed JSON file"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{key}: {error['input']!r} cannot be used: {reason[0].lower()}{reason[1:]}"


def _together(found: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Problems of keys that do not go together."""
    adapter, bits, kind = given.get("adapter_name_or_path"), given.get("quantization_bit"), kind_of(given)
    fsdp = str(given.get("fsdp") or "full_shard")
    told = (
        (
            adapter and "," in str(adapter),
            "adapter_name_or_path: several adapters are not supported; instead: merge them into one model",
        ),
        (
            adapter and found.get("create_new_adapter"),
            "create_new_adapter: a new adapter over another one is not supported: it would be useless without it; "
            "instead: go on with the adapter, or merge it first",
        ),
        (
            bits and kind != "lora",
            f"quantization_bit: not supported with finetuning_type {kind}; instead: finetuning_type lora",
        ),
        (
            bits and given.get("pissa_init"),
            "pissa_init: a quantised base keeps no exact directions; instead: leave it out",
        ),
        (
            given.get("use_llama_pro") and kind != "freeze",
            "use_llama_pro: not supported with this finetuning_type; instead: finetuning_type freeze",
        ),
        *(
            (
                kind == "freeze" and given.get(name) == 0,
                f"{name}: 0 layers cannot train; instead: 1 or more, or finetuning_type lora",
            )
            for name in ("trainable_layers", "freeze_trainable_layers")
        ),
        (
            given.get("deepspeed") and not _is_file(given["deepspeed"]),
            f"deepspeed: there is no file {given.get('deepspeed')}; instead: the path of a DeepSpeed JSON file",
        ),
        (
            "full_shard" not in fsdp or "offload" in fsdp,
            f"fsdp: {fsdp} is not supported; instead: full_shard",
        ),
        (
            _offloads(found.get("fsdp_config")),
            "fsdp_config: weights do not go to the main memory; instead: deepspeed with a file that offloads",
        ),
        (
            given.get("val_size") and given.get("eval_dataset"),
            "eval_dataset: cannot be used beside val_size; instead: one of the two",
        ),
    )
    return [sentence for wrong, sentence in told if wrong] + _ratios(given) + _trackers(given) + _optimizer(given)


def _is_file(name: str | Path) -> bool:
    """Whether there is such a file; a text that is too long for a name names none."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def _offloads(config: Any) -> bool:
    """Whether a mapping, or the JSON or YAML file of that name, asks to keep weights in the main memory."""
    if isinstance(config, str) and _is_file(config):
        try:
            config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            return False
    if not isinstance(config, Mapping):
        return False
    wanted = {str(key).removeprefix("fsdp_"): value for key, value in config.items()}
    return any(bool(wanted.get(key)) for key in ("offload_params", "cpu_offload", "offload"))


def _optimizer(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the optimizer."""
    name = given.get("optim")
    found = problem(str(name)) if name is not None and name != "adamw_hf" else None
    return [f"optim: {found[0]}; instead: {found[1]}"] if found else []


def _trackers(given: Mapping[str, Any]) -> list[str]:
    """Which of the places that curves are to be sent to are not there."""
    asked = [name.strip() for name in str(given.get("report_to") or "none").split(",")]
    known = ("none", *TRACKERS)
    return [
        f"report_to: {name} is not supported: nacre does not report to it; instead: {', '.join(TRACKERS)}"
        for name in asked
        if name not in known
    ]


def _ratios(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the numbers that datasets are to be mixed by."""
    if not given.get("interleave_probs"):
        return []
    names, ratios = str(given.get("dataset", "")).split(","), str(given["interleave_probs"]).split(",")
    if given.get("mix_strategy", "concat") == "concat":
        return ["interleave_probs: has no meaning without mix_strategy; instead: mix_strategy interleave_over"]
    if len(ratios) != len(names) or not all(_positive(ratio) for ratio in ratios):
        return [f"interleave_probs: {len(names)} datasets need as many numbers above 0; got {','.join(ratios)}"]
    return []


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def remarks() -> list[tuple[str, str, str]]:
    """Every key that is not acted on: name, what becomes of it, and why or what instead; for the documents."""
    return [
        (name, "no effect", entry.why)
        if isinstance(entry, Idle)
        else (name, "refused", f"{entry.why}; instead: {entry.instead}")
        for name, entry in sorted(KEYS.items())
    ]
