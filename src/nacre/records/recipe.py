"""How a version is trained, evaluated and judged: the part of `nacre.yaml` that a version carries with it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from nacre.base.config import Settings
from nacre.records.template import with_a_question
from nacre.records.tune import Full, Tune, named


def _protections(value: Any) -> Any:
    """`none` is an empty list; a name is short for a mapping with that name."""
    if value in ("auto", "none"):
        return "auto" if value == "auto" else ()
    return [named(entry) for entry in value] if isinstance(value, list | tuple) else value


Protect = Annotated[Literal["auto"] | tuple[dict[str, Any], ...], BeforeValidator(_protections)]


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preference(Settings):
    """How preferences are learned: pairs in the stage dpo, judged answers in the stage kto."""

    loss: Literal["sigmoid", "hinge", "ipo", "orpo", "simpo"] = Field(
        "sigmoid", description="of dpo; orpo and simpo need no reference version"
    )
    beta: float = Field(0.1, gt=0, description="how closely the start is kept to; orpo: weight of the odds ratio")
    gamma: float = Field(0.5, ge=0, description="simpo: the margin that is asked for; its paper uses beta 2 to 2.5")
    sft_weight: float = Field(0.0, ge=0, description="of the chosen answers' own loss beside the pair's")
    desirable_weight: float = Field(1.0, ge=0, description="kto: of answers judged good")
    undesirable_weight: float = Field(1.0, ge=0, description="kto: of answers judged bad")


def _curriculum(value: str) -> str:
    if value in ("none", "length", "loss", "parts") or (value.startswith("column:") and value != "column:"):
        return value
    raise ValueError("give none, length, loss, parts, or column: and the name of a column, e.g. column:difficulty")


class Train(Settings):
    """The optimiser's side of a run. `auto` values are decided from the model and the data, and said."""

    stage: Literal["sft", "pt", "rm", "dpo", "kto", "clip"] = Field(
        "sft",
        description="sft learns answers, pt plain text, rm a reward model, dpo and kto preferences; "
        "clip aligns pictures with their captions",
    )
    template: str | None = Field(
        None, description="chat template by LlamaFactory's name; default: the model's own, or else nacre's"
    )
    epochs: Positive | Literal["auto"] = Field("auto", description="passes over the new rows")
    min_steps: int = Field(30, ge=1, description="a small increment is repeated until it has this many steps")
    learning_rate: Positive | Literal["auto", "pilot"] = Field(
        "auto", description="highest rate of the schedule; pilot tries a few on a tenth of the rows"
    )
    batch_size: int = Field(16, ge=1, description="rows per optimizer step, over all processes, replayed rows included")
    accumulation: int = Field(1, ge=1, description="micro-batches each process's batch is cut into, to save memory")
    processes: int = Field(1, ge=1, description="that train together on each machine, one for each GPU")
    sharding: Literal["none", "zero2", "zero3", "fsdp2"] = Field(
        "none", description="what each process holds a part of only: zero2 optimizer and gradients, others weights too"
    )
    deepspeed: Path | None = Field(None, description="instead of sharding: a DeepSpeed JSON file, LlamaFactory's too")
    max_length: int = Field(1024, ge=8, description="tokens; longer rows are cut and counted")
    scheduler: str = Field("cosine", description="course of the learning rate, by transformers' names")
    warmup: float = Field(0.05, ge=0, description="share of the steps, or a number of steps if at least 1")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are scaled down to this norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 or else fp16 on a GPU; on a CPU that has bf16, bf16 for large models, else fp32"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="compute activations twice instead of keeping them; left out: where memory would not suffice"
    )
    save_steps: int = Field(200, ge=1, description="optimizer steps from one checkpoint to the next")
    logging_steps: int = Field(10, ge=1, description="optimizer steps from one line of trainer_log.jsonl to the next")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps")
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="where else the curves go; trainer_log.jsonl always has them"
    )
    preference: Preference = Field(Preference(), description="how dpo and kto learn")
    optimizer: str | None = Field(None, description="by transformers' names, e.g. adafactor; default: AdamW")
    neftune_alpha: Positive | None = Field(
        None, description="noise on the embeddings while training (NEFTune, arXiv 2310.05914); 5 is usual"
    )
    eval_steps: Annotated[int, Field(ge=1)] | Literal["epoch"] | None = Field(
        None, description="optimizer steps between validations, or epoch; default: after each pass, at most three times"
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many validations without a better loss, on train rows set aside for it"
    )
    curriculum: Annotated[str, AfterValidator(_curriculum)] = Field(
        "none",
        description="easy rows first in the first pass: length, loss (of the start) or column:NAME; "
        "parts: one dataset after another, each with its own warm-up and decay",
    )
    mix: dict[str, Positive] = Field(
        default_factory=dict, description="ratio of several datasets in every batch, by name, e.g. {laws: 3, chat: 1}"
    )
    typos: float = Field(0.0, ge=0, le=0.5, description="share of the letters mistyped in the questions of added rows")
    typo_rows: float = Field(0.5, gt=0, le=1, description="share of the rows that get such a twin, where typos is set")
    templates: Annotated[tuple[str, ...], AfterValidator(with_a_question)] = Field(
        (), description="each row is learned once more, asked in other words; e.g. `Please answer: {question}`"
    )
    trunk_cache: Literal["auto", "off"] = Field(
        "auto", description="auto: what the blocks below all that trains say of a row is kept in a file, not made anew"
    )
    trunk_cache_gib: float = Field(10.0, gt=0, description="largest file of that kind, in GiB")
    check_memory: bool = Field(True, description="refuse a training whose estimate is beyond the device's memory")
    seed: int = Field(0, description="of the row order, dropout and new adapters")

    @model_validator(mode="after")
    def _one_order(self) -> "Train":
        if self.mix and self.curriculum == "parts":
            raise ValueError("mix draws from all datasets at once, curriculum parts from one after another: keep one")
        return self


class Keep(Settings):
    """What the user can bear to lose: the gate holds every kept task to it."""

    max_drop: Share | Literal["auto"] = Field("auto", description="largest drop of a task's score, e.g. 0.02")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided level of the gate's bounds")
    tasks: dict[str, Share] = Field(default_factory=dict, description="max_drop of single tasks")
    data: Share = Field(1.0, description="share of each increment's train rows that may outlive it; 0 keeps none")
    tries: int = Field(3, ge=1, description="with protect: auto, train at most so often, each time more protected")


class TaskSettings(Settings):
    """How one task is scored, where the choice made from its data is not wanted."""

    metric: str | None = Field(None, description="what the gate reads; default: chosen from the dev rows")
    max_new_tokens: int | None = Field(None, ge=1, description="default: the longest reference and a quarter more")
    answers: Literal["free", "options"] = Field(
        "free", description="options: the likeliest of the task's different references, at most 20, is the answer"
    )


class Decoding(Settings):
    """How answers are generated for scoring. Greedy, so that a report can be repeated."""

    max_new_tokens: int = Field(ge=1)
    max_length: int = Field(1024, ge=8)
    options: tuple[str, ...] = Field((), description="the answer is the likeliest of these; empty: any text")

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)  # digests of reports from before there were options stay what they were
        return written if self.options else {key: value for key, value in written.items() if key != "options"}


class Recipe(Settings):
    """Everything that decides what training does, apart from the data and the starting point.

    `protect` is `auto`, `none`, or a list of names or ``{"name": ..., option: ...}``; the options belong to the
    protection of that name.
    """

    tune: Tune = Full()
    train: Train = Train()
    protect: Protect = "auto"
    terms: tuple[str, ...] = Field((), description="texts that become tokens of their own before anything is trained")

    @model_validator(mode="after")
    def _prefix_is_kept(self) -> "Recipe":
        if self.tune.name == "prefix" and self.train.gradient_checkpointing:
            raise ValueError("the tuner prefix puts keys and values into every layer, which checkpointing throws away")
        return self

    @property
    def alone(self) -> "Recipe":
        """The same in one process that keeps all it computes: neither changes anything of what is learned."""
        update = {"processes": 1, "gradient_checkpointing": None}
        return self.model_copy(update={"train": self.train.model_copy(update=update)})

    @model_serializer(mode="wrap")
    def _without_terms(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)  # of recipes from before there were terms nothing changes
        return written if self.terms else {key: value for key, value in written.items() if key != "terms"}
