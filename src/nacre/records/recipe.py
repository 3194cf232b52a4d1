"""How a version is trained, evaluated and judged: the part of `nacre.yaml` that a version carries with it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nacre.base.config import Settings
from nacre.records.tune import Full, Tune, named


def _protections(value: Any) -> Any:
    """`none` is an empty list; a name is short for a mapping with that name."""
    if value in ("auto", "none"):
        return "auto" if value == "auto" else ()
    return [named(entry) for entry in value] if isinstance(value, list | tuple) else value


Protect = Annotated[Literal["auto"] | tuple[dict[str, Any], ...], BeforeValidator(_protections)]


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Train(Settings):
    """The optimiser's side of a run. `auto` values are decided from the model and the data, and said."""

    stage: Literal["sft", "pt", "rm", "dpo", "kto"] = Field(
        "sft", description="sft learns answers, pt plain text, rm a reward model, dpo and kto preferences"
    )
    epochs: Positive | Literal["auto"] = Field("auto", description="passes over the new rows")
    min_steps: int = Field(30, ge=1, description="a small increment is repeated until it has this many steps")
    learning_rate: Positive | Literal["auto"] = Field("auto", description="highest rate of the schedule")
    batch_size: int = Field(16, ge=1, description="rows per optimizer step on each device, replayed rows included")
    accumulation: int = Field(1, ge=1, description="micro-batches the batch is cut into, to save memory")
    max_length: int = Field(1024, ge=8, description="tokens; longer rows are cut and counted")
    scheduler: str = Field("cosine", description="course of the learning rate, by transformers' names")
    warmup: float = Field(0.05, ge=0, description="share of the steps, or a number of steps if at least 1")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are scaled down to this norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 or else fp16 on a GPU, fp32 on a CPU"
    )
    gradient_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")
    save_steps: int = Field(200, ge=1, description="optimizer steps from one checkpoint to the next")
    logging_steps: int = Field(10, ge=1, description="optimizer steps from one line of trainer_log.jsonl to the next")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps")
    seed: int = Field(0, description="of the row order, dropout and new adapters")


class Keep(Settings):
    """What the user can bear to lose: the gate holds every kept task to it."""

    max_drop: Share | Literal["auto"] = Field("auto", description="largest drop of a task's score, e.g. 0.02")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided level of the gate's bounds")
    tasks: dict[str, Share] = Field(default_factory=dict, description="max_drop of single tasks")


class TaskSettings(Settings):
    """How one task is scored, where the choice made from its data is not wanted."""

    metric: str | None = Field(None, description="what the gate reads; default: chosen from the dev rows")
    max_new_tokens: int | None = Field(None, ge=1, description="default: the longest reference and a quarter more")


class Decoding(Settings):
    """How answers are generated for scoring. Greedy, so that a report can be repeated."""

    max_new_tokens: int = Field(ge=1)
    max_length: int = Field(1024, ge=8)


class Recipe(Settings):
    """Everything that decides what training does, apart from the data and the starting point.

    `protect` is `auto`, `none`, or a list of names or ``{"name": ..., option: ...}``; the options belong to the
    protection of that name.
    """

    tune: Tune = Full()
    train: Train = Train()
    protect: Protect = "auto"
