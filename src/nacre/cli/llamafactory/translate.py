"""LlamaFactory's arguments in nacre's terms. A translation, nothing more."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.cli.llamafactory.arguments import LAYERS, Arguments
from nacre.cli.llamafactory.check import TRACKERS
from nacre.cli.llamafactory.layers import by_name, settled_kind, trained_modules
from nacre.records import Recipe

if TYPE_CHECKING:
    from nacre.cycle.increment.folder import FolderJob

LORA = (
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_target",
    "additional_target",
    "use_rslora",
    "use_dora",
    "pissa_init",
    "loraplus_lr_ratio",
    "quantization_bit",
)
OFT = ("oft_block_size", "oft_target", "module_dropout")
FOLDERS = (Path("dataset"), Path("data"))  # the articles' and LlamaFactory's
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf")


def to_job(arguments: Arguments) -> tuple["FolderJob", list[str]]:
    """The same run in nacre's terms, and what was decided or has no effect, in sentences.

    Raises:
        InputError: the adapter sits on another model than the one that is named.
    """
    from nacre.cycle.increment.folder import FolderJob

    notes: list[str] = []
    folder = _dataset_dir(arguments, notes)
    dataset = ",".join(_inside(name.strip(), folder) for name in arguments.dataset.split(","))
    train = _train(arguments, notes) | _mix(arguments, dataset, folder, notes)
    recipe = parse(
        Recipe,
        {"tune": _tune(arguments, notes), "train": train, "protect": _protect(arguments, notes)},
        where="the arguments",
    )
    job = FolderJob(
        model=_start(arguments),
        previous=arguments.prev_model,
        dataset=dataset,
        dataset_dir=folder,
        output=arguments.output_dir,
        recipe=recipe,
        max_samples=arguments.max_samples,
        drop_budget=arguments.drop_budget,
        held_out=arguments.eval_dataset or arguments.val_size,
        watch=arguments.eval_strategy != "no",
        plot=arguments.plot_loss,
        overwrite=arguments.overwrite_output_dir,
    )
    return job, notes


def _start(arguments: Arguments) -> str:
    """Where training starts: the adapter where one is named, which must sit on the model that is named."""
    adapter = arguments.adapter_name_or_path
    if adapter is None:
        return arguments.model_name_or_path
    from nacre.cycle.increment.folder import folder_weights

    weights = folder_weights(adapter)
    if weights.adapter is None:
        raise InputError("this is no adapter", where=adapter, fix="name a folder that holds adapter_config.json")
    model = folder_weights(arguments.model_name_or_path).model
    if weights.model != model:
        raise InputError(
            f"the adapter was trained on another model: {weights.model}",
            where=f"adapter_name_or_path {adapter}",
            fix=f"name that one as model_name_or_path, not {model}",
        )
    return adapter


def _dataset_dir(arguments: Arguments, notes: list[str]) -> Path:
    """The folder that datasets are looked for in; where both usual ones are there, the one that knows them all."""
    if arguments.dataset_dir is not None:
        return arguments.dataset_dir
    there = [folder for folder in FOLDERS if folder.is_dir()] or [FOLDERS[0]]
    knowing = [folder for folder in there if all(_is_in(name.strip(), folder) for name in arguments.dataset.split(","))]
    chosen = (knowing or there)[0]
    if len(there) > 1:
        notes.append(f"dataset_dir {chosen}: both {' and '.join(map(str, there))} are there, and none was named")
    return chosen


def _is_in(name: str, folder: Path) -> bool:
    from nacre.data.dataset import resolve

    try:
        found = resolve(name, folder)
    except InputError:
        return False
    return all(path.resolve().is_relative_to(folder.resolve()) for path in found.train)


def _inside(dataset: str, folder: Path) -> str:
    """The path of a file that is named as it lies in the dataset folder."""
    from nacre.data.dataset import ENDINGS

    path = Path(dataset)
    inside = dataset.endswith(ENDINGS) and not path.exists() and (folder / path).exists()
    return str(folder / path) if inside else dataset


def _tune(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    named = arguments.model_fields_set
    kind = settled_kind(arguments)
    if arguments.finetuning_type is None:
        notes.append(f"finetuning_type {kind}: chosen because none was given")
    if kind != "freeze":
        idle = [name for name in LAYERS if getattr(arguments, name) is not None and name in named]
        if kind == "full" and arguments.trainable_layers == "all":
            idle.remove("trainable_layers")
        notes += [f"{name}: has no effect with finetuning_type {kind}" for name in idle]
    unused = {"lora": OFT, "oft": LORA}.get(kind, (*LORA, *OFT))
    notes += [f"{name}: has no effect with finetuning_type {kind}" for name in unused if name in named]
    if kind == "full":
        return {"name": "full"}
    if kind == "freeze":
        return _freeze(arguments, notes)
    if kind == "oft":
        return {
            "name": "oft",
            "block_size": arguments.oft_block_size,
            "dropout": arguments.module_dropout,
            "target": _names(arguments.oft_target),
        }
    return _lora(arguments, notes)


def _freeze(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    counts = ("freeze_layers", "trainable_layers", "freeze_trainable_layers")
    first, *idle = [name for name in counts if getattr(arguments, name) is not None] or [""]
    notes += [f"{name}: has no effect beside {first}" for name in idle]
    if by_name(arguments):
        return {"name": "full"}
    if arguments.freeze_layers is not None:
        return {"name": "freeze", "frozen_layers": arguments.freeze_layers}
    if arguments.trainable_layers == "all":
        return {"name": "full"}
    return {"name": "freeze", "trainable_layers": arguments.trainable_layers or arguments.freeze_trainable_layers or 2}


def _lora(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    tune: dict[str, Any] = {
        "name": "lora",
        "rank": arguments.lora_rank,
        "alpha": arguments.lora_alpha,
        "dropout": arguments.lora_dropout,
        "target": _names(arguments.lora_target),
        "rslora": arguments.use_rslora,
        "dora": arguments.use_dora,
        "lr_ratio": arguments.loraplus_lr_ratio,
        "modules_to_save": _names(arguments.additional_target) if arguments.additional_target else (),
    }
    if arguments.quantization_bit is None:
        idle = {"quantization_type", "double_quantization"} & arguments.model_fields_set
        notes += [f"{name}: has no effect without quantization_bit" for name in sorted(idle)]
        return tune | {"init": "pissa" if arguments.pissa_init else "default"}
    return tune | {
        "name": "qlora",
        "bits": arguments.quantization_bit,
        "quant": arguments.quantization_type,
        "double_quant": arguments.double_quantization,
    }


def _names(text: str) -> tuple[str, ...]:
    return ("all-linear",) if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())


def _train(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    if arguments.learning_rate is None:
        notes.append("learning_rate: none was given, so it is chosen for the model's size")
    if arguments.bf16 and arguments.fp16:
        notes.append("fp16: has no effect beside bf16")
    exact = arguments.max_steps if arguments.max_steps and arguments.max_steps > 0 else None
    if exact and "num_train_epochs" in arguments.model_fields_set:
        notes.append("num_train_epochs: has no effect beside max_steps")
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return _sharding(arguments, notes) | {
        "stage": arguments.stage,
        "template": arguments.template,
        "epochs": arguments.num_train_epochs,
        "min_steps": exact or 1,
        "max_steps": exact,
        "learning_rate": arguments.learning_rate or "auto",
        "batch_size": rows * _world(arguments),
        "accumulation": arguments.gradient_accumulation_steps,
        "max_length": _length(arguments, notes),
        "scheduler": arguments.lr_scheduler_type,
        # 1 would be a number of steps
        "warmup": arguments.warmup_steps or min(arguments.warmup_ratio, math.nextafter(1.0, 0.0)),
        "weight_decay": arguments.weight_decay,
        "max_grad_norm": arguments.max_grad_norm,
        "optimizer": None if arguments.optim in ADAMW else arguments.optim,
        "precision": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "auto",
        "gradient_checkpointing": False
        if arguments.disable_gradient_checkpointing
        else arguments.gradient_checkpointing,
        "neftune_alpha": arguments.neftune_noise_alpha,
        "preference": _preference(arguments, notes),
        "eval_steps": _looks(arguments, notes),
        "early_stopping": arguments.early_stopping_steps,
        "logging_steps": arguments.logging_steps,
        "save_steps": arguments.save_steps,
        "report_to": tuple(name.strip() for name in arguments.report_to.split(",") if name.strip() in TRACKERS),
        "seed": arguments.seed,
    }


def _looks(arguments: Arguments, notes: list[str]) -> int | str | None:
    """Steps from one look at held-out rows to the next, as transformers counts them."""
    strategy, steps = arguments.eval_strategy, arguments.eval_steps
    if strategy != "no" and arguments.val_size == 0 and arguments.eval_dataset is None:
        notes.append(
            f"eval_strategy {strategy}: val_size 0 holds no rows out, so only a dataset's own dev rows are looked at"
        )
    if strategy == "steps" and steps is None:
        notes.append(f"eval_steps {arguments.logging_steps}: logging_steps, because none was given")
        return arguments.logging_steps
    if steps is not None and strategy != "steps" and (strategy == "epoch" or arguments.early_stopping_steps is None):
        notes.append("eval_steps: has no effect without eval_strategy steps")
    return "epoch" if strategy == "epoch" else steps


def _length(arguments: Arguments, notes: list[str]) -> int:
    split = arguments.max_source_length is not None or arguments.max_target_length is not None
    if arguments.cutoff_len and split:
        notes.append("max_source_length, max_target_length: have no effect beside cutoff_len")
    both = (arguments.max_source_length or 512) + (arguments.max_target_length or 512)
    return arguments.cutoff_len or (both if split else 2048)


def _world(arguments: Arguments) -> int:
    """How many processes will train: LlamaFactory's batch is each one's, nacre's is everyone's."""
    from nacre.records import Train
    from nacre.train.launch import launch_of

    sharding: dict[str, Any] = {"deepspeed": arguments.deepspeed, "sharding": "fsdp2" if arguments.fsdp else "none"}
    launch = launch_of(Train(processes=arguments.processes, **sharding))
    return launch.world if launch else int(os.environ.get("WORLD_SIZE", "1"))


def _sharding(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    """How processes share the model; where there is one only, there is nothing to share."""
    asked = {"deepspeed": arguments.deepspeed, "fsdp": arguments.fsdp}
    if _world(arguments) == 1:
        notes += [
            f"{name}: one process has nothing to share; it trains as it does without" for name in asked if asked[name]
        ]
        return {}
    return {
        "processes": arguments.processes,
        "deepspeed": arguments.deepspeed,
        "sharding": "fsdp2" if arguments.fsdp else "none",
    }


def _preference(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    of: dict[str, tuple[str, ...]] = {"dpo": ("pref_loss", "pref_beta", "pref_ftx", "simpo_gamma")}
    of["kto"] = ("pref_beta", "kto_chosen_weight", "kto_rejected_weight")
    used = of.get(arguments.stage, ())
    named = sorted({name for names in of.values() for name in names} & arguments.model_fields_set - set(used))
    notes += [f"{name}: has no effect in stage {arguments.stage}" for name in named]
    if arguments.stage == "dpo" and arguments.pref_loss != "simpo" and "simpo_gamma" in arguments.model_fields_set:
        notes.append(f"simpo_gamma: has no effect with pref_loss {arguments.pref_loss}")
    return {
        "loss": arguments.pref_loss,
        "beta": arguments.pref_beta,
        "gamma": arguments.simpo_gamma,
        "sft_weight": arguments.pref_ftx,
        "desirable_weight": arguments.kto_chosen_weight,
        "undesirable_weight": arguments.kto_rejected_weight,
    }


def _mix(arguments: Arguments, dataset: str, folder: Path, notes: list[str]) -> dict[str, Any]:
    """The ratio of several datasets in every batch.

    Raises:
        InputError: two of them have one name: a batch could not tell their rows apart.
    """
    if arguments.mix_strategy == "concat":
        return {}
    from nacre.data.dataset import resolve

    found = [resolve(name, folder) for name in dataset.split(",")]
    names = [files.task for files in found]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(
            f"two datasets to mix are both called '{double}'",
            where=", ".join(str(path) for files in found if files.task == double for path in files.train),
            fix="rename one, or give its file another name in dataset_info.json and name that one in dataset",
        )
    ratios = [float(part) for part in arguments.interleave_probs.split(",")] if arguments.interleave_probs else []
    notes.append(f"mix_strategy {arguments.mix_strategy}: num_train_epochs counts all rows; smaller datasets repeat")
    return {"mix": dict(zip(names, ratios or [1.0] * len(names), strict=True))}


def _protect(arguments: Arguments, notes: list[str]) -> list[dict[str, Any]]:
    """`--prev_model` replays its rows and holds the answers near its own; without it nothing is protected."""
    chosen: list[dict[str, Any]] = []
    if by_name(arguments):
        chosen.append({"name": "freeze", "trained": trained_modules(arguments)})
    if arguments.prev_model is None:
        ignored = [name for name in ("regularization_alpha", "replay_samples") if name in arguments.model_fields_set]
        notes += [f"{name}: has no effect without prev_model" for name in ignored]
        return chosen
    if arguments.replay_samples != 0:
        # "at most" is meant: without the floor of rows for each class that replay has by itself
        limit = {"per_class": 0} if arguments.replay_samples else {}
        chosen.append({"name": "replay", "samples": arguments.replay_samples, **limit})
    if arguments.regularization_alpha > 0:
        on = ["generic", "replayed"] if arguments.replay_samples != 0 else ["generic"]
        chosen.append({"name": "distill", "weight": arguments.regularization_alpha, "on": on})
    return chosen
