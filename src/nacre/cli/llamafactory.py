"""LlamaFactory's argument names, and the articles' own, in nacre's terms. A translation, nothing more."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from nacre.base.config import Settings, parse, read_yaml
from nacre.base.errors import InputError, unknown
from nacre.records import Recipe

if TYPE_CHECKING:
    from nacre.cycle.folder import FolderJob

ALIASES = {"data_path": "dataset", "lr": "learning_rate", "use_gradient_checkpointing": "gradient_checkpointing"}
SWITCHES = {
    "do_train",
    "do_eval",
    "overwrite_cache",
    "overwrite_output_dir",
    "plot_loss",
    "fp16",
    "bf16",
    "gradient_checkpointing",
}


LORA = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target")


class Arguments(Settings):
    """Every argument that is understood. Another one is refused with the nearest known name."""

    model_name_or_path: str = Field(description="where training starts: model or adapter folder, or hub name")
    dataset: str = Field(description="a folder or file of dataset_dir, a name in its dataset_info.json, or a path")
    output_dir: Path = Field(description="new folder for the result, in Hugging Face layout")
    stage: str = Field("sft", description="sft or pt")
    do_train: bool = True
    finetuning_type: str | None = Field(
        None, description="lora, freeze or full; lora unless layers or prev_model are named"
    )
    dataset_dir: Path = Field(Path("dataset"), description="where datasets are looked for, and dev_all.json is kept")
    template: str | None = Field(None, description="accepted; the chat template in the model's folder decides")
    prev_model: str | None = Field(None, description="the version whose abilities are to be kept")
    regularization_alpha: float = Field(0.1, ge=0, description="weight of the divergence from prev_model")
    replay_samples: int | None = Field(None, ge=0, description="replay at most this many earlier rows; default all")
    freeze_layers: int | None = Field(None, ge=0, description="this many of the first layers stay frozen")
    trainable_layers: Literal["all"] | int | None = Field(None, description="all, or how many of the last layers train")
    max_samples: int | None = Field(None, ge=1, description="use at most this many rows of each dataset")
    cutoff_len: int | None = Field(None, ge=8, description="tokens of a row; longer ones are cut; default 2048")
    max_source_length: int | None = Field(None, ge=4, description="with the next one: their sum is the cutoff_len")
    max_target_length: int | None = Field(None, ge=4)
    lora_rank: int = Field(8, ge=1)
    lora_alpha: float | None = Field(None, gt=0, description="default: twice the rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_target: str = Field("all", description="names of linear modules, with commas")
    learning_rate: float | None = Field(None, gt=0, description="default: chosen for the model's size")
    num_train_epochs: float = Field(3.0, gt=0)
    max_steps: int | None = Field(None, description="stop after this many steps; -1 does not")
    per_device_train_batch_size: int = Field(8, ge=1)
    gradient_accumulation_steps: int = Field(1, ge=1)
    lr_scheduler_type: str = "linear"
    warmup_ratio: float = Field(0.0, ge=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    logging_steps: int = Field(10, ge=1)
    save_steps: int = Field(500, ge=1, description="steps between two checkpoints")
    seed: int = 42
    fp16: bool = Field(False, description="16-bit training; on a CPU bf16 or fp32 takes its place, and it is said")
    bf16: bool = False
    gradient_checkpointing: bool = Field(False, description="less memory, more time")
    plot_loss: bool = Field(False, description="draw training_loss.png")
    overwrite_cache: bool = Field(False, description="accepted; there is no cache to overwrite")
    overwrite_output_dir: bool = Field(False, description="replace what output_dir holds")

    @field_validator("stage")
    @classmethod
    def _known_stage(cls, value: str) -> str:
        if value not in ("sft", "pt"):
            raise ValueError("nacre trains the stages sft and pt")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Arguments":
        if not self.do_train:
            raise ValueError("do_train is needed: this command trains")
        if self.finetuning_type not in (None, "lora", "freeze", "full"):
            raise ValueError("finetuning_type is one of lora, freeze, full")
        return self


def read_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Flags (``--key value``, ``--key=value``, ``--switch``), ``key=value`` words and YAML or JSON files, in one dict.

    Later ones win. What is given on the command line stays text until it is validated.

    Raises:
        InputError: a flag without its value, an unreadable file, or a word that is none of these.
    """
    found: dict[str, Any] = {}
    words = list(given)
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        key = ALIASES.get(name.replace("-", "_"), name.replace("-", "_"))
        if word.startswith("--") and not equals:
            if (
                words
                and not words[0].startswith("--")
                and not (key in SWITCHES and words[0].lower() not in ("true", "false"))
            ):
                value = words.pop(0)
            elif key in SWITCHES or key not in Arguments.model_fields:
                value = "true"
            else:
                raise InputError(f"--{name} needs a value", where=f"--{name}", fix=f"write --{name} VALUE")
            found[key] = value
        elif equals:
            found[key] = value
        elif Path(word).suffix in (".yaml", ".yml", ".json"):
            read = _read_json if word.endswith(".json") else read_yaml
            found |= {ALIASES.get(key, key): value for key, value in read(Path(word))[0].items()}
        else:
            raise InputError(
                f"'{word}' is neither a flag nor a settings file",
                where="command line",
                fix="write --flag value, key=value, or a .yaml or .json file",
            )
    return found


def to_arguments(found: Mapping[str, Any], where: str) -> Arguments:
    """Validate; an unknown name is refused with the nearest known one.

    Raises:
        InputError: unknown, missing or wrong arguments.
    """
    known = {*Arguments.model_fields, *ALIASES}
    for key in found:
        if key not in known:
            raise unknown("argument", f"--{key}", [f"--{name}" for name in known], where=where)
    return parse(Arguments, dict(found), where=where)


def to_job(arguments: Arguments) -> tuple["FolderJob", list[str]]:
    """The same run in nacre's terms, and what was decided or has no effect, in sentences."""
    from nacre.cycle.folder import FolderJob

    notes: list[str] = []
    recipe = parse(
        Recipe,
        {"tune": _tune(arguments, notes), "train": _train(arguments, notes), "protect": _protect(arguments, notes)},
        where="the arguments",
    )
    if arguments.template is not None:
        notes.append(f"template {arguments.template}: the chat template in the model's folder decides the text")
    if arguments.overwrite_cache:
        notes.append("overwrite_cache: data is read afresh in every run, there is no cache to overwrite")
    dataset = Path(arguments.dataset)
    inside = (
        dataset.suffix in (".json", ".jsonl", ".txt")
        and not dataset.exists()
        and (arguments.dataset_dir / dataset).exists()
    )
    job = FolderJob(
        model=arguments.model_name_or_path,
        previous=arguments.prev_model,
        dataset=str(arguments.dataset_dir / dataset) if inside else arguments.dataset,
        dataset_dir=arguments.dataset_dir,
        output=arguments.output_dir,
        recipe=recipe,
        max_samples=arguments.max_samples,
        plot=arguments.plot_loss,
        overwrite=arguments.overwrite_output_dir,
    )
    return job, notes


def _tune(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    kind = arguments.finetuning_type
    if kind is None:
        layered = arguments.freeze_layers is not None or arguments.trainable_layers is not None or arguments.prev_model
        kind = "full" if arguments.trainable_layers == "all" else "freeze" if layered else "lora"
        notes.append(f"finetuning_type {kind}: chosen because none was given")
    named = arguments.model_fields_set
    idle = {"lora": ("freeze_layers", "trainable_layers"), "full": ("freeze_layers", *LORA), "freeze": LORA}[kind]
    notes += [f"{name}: has no effect with finetuning_type {kind}" for name in idle if name in named]
    if kind == "freeze" and {"freeze_layers", "trainable_layers"} <= named:
        notes.append("trainable_layers: has no effect beside freeze_layers")
    if kind == "full":
        return {"name": "full"}
    if kind == "freeze":
        if arguments.freeze_layers is not None:
            return {"name": "freeze", "frozen_layers": arguments.freeze_layers}
        count = arguments.trainable_layers
        return (
            {"name": "full"}
            if count == "all"
            else {"name": "freeze", "trainable_layers": 2 if count is None else count}
        )
    target = ("all-linear",) if arguments.lora_target == "all" else tuple(arguments.lora_target.split(","))
    return {
        "name": "lora",
        "rank": arguments.lora_rank,
        "alpha": arguments.lora_alpha,
        "dropout": arguments.lora_dropout,
        "target": target,
    }


def _train(arguments: Arguments, notes: list[str]) -> dict[str, Any]:
    if arguments.learning_rate is None:
        notes.append("learning_rate: none was given, so it is chosen for the model's size")
    both = (arguments.max_source_length or 512) + (arguments.max_target_length or 512)
    split = arguments.max_source_length is not None or arguments.max_target_length is not None
    length = arguments.cutoff_len or (both if split else 2048)
    if arguments.cutoff_len and split:
        notes.append("max_source_length, max_target_length: have no effect beside cutoff_len")
    if arguments.bf16 and arguments.fp16:
        notes.append("fp16: has no effect beside bf16")
    warmup = arguments.warmup_steps or arguments.warmup_ratio
    return {
        "stage": arguments.stage,
        "epochs": arguments.num_train_epochs,
        "min_steps": 1,
        "max_steps": arguments.max_steps if arguments.max_steps and arguments.max_steps > 0 else None,
        "learning_rate": arguments.learning_rate or "auto",
        "batch_size": arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
        "accumulation": arguments.gradient_accumulation_steps,
        "max_length": length,
        "scheduler": arguments.lr_scheduler_type,
        "warmup": warmup,
        "weight_decay": arguments.weight_decay,
        "max_grad_norm": arguments.max_grad_norm,
        "precision": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "auto",
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "logging_steps": arguments.logging_steps,
        "save_steps": arguments.save_steps,
        "seed": arguments.seed,
    }


def _protect(arguments: Arguments, notes: list[str]) -> list[dict[str, Any]]:
    """`--prev_model` replays its rows and holds the answers near its own; without it nothing is protected."""
    if arguments.prev_model is None:
        ignored = [name for name in ("regularization_alpha", "replay_samples") if name in arguments.model_fields_set]
        notes += [f"{name}: has no effect without prev_model" for name in ignored]
        return []
    chosen: list[dict[str, Any]] = []
    if arguments.replay_samples != 0:
        chosen.append({"name": "replay", "samples": arguments.replay_samples})
    if arguments.regularization_alpha > 0:
        chosen.append({"name": "distill", "weight": arguments.regularization_alpha, "on": ["generic", "replayed"]})
    return chosen


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    """As `read_yaml`: JSON is nearly YAML, but not where it is indented with tabs."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix="check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start}", where=str(path), fix="save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise InputError(f"not valid JSON: {error.msg}", where=where, fix="correct that line") from None
    if not isinstance(data, dict):
        raise InputError("the file must hold one JSON object", where=str(path), fix='write {"key": value, …}')
    return data, text
