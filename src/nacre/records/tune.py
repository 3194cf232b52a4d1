"""Which parameters train: one class for each tuner, told apart by its name."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from nacre.base.config import Settings

MOVES_THE_BASE = ("pissa", "olora")  # beginnings of LoRA that take a part of the base weights into the adapter


class Full(Settings):
    """Train every parameter; of a model that reads pictures, those of its language model."""

    name: Literal["full"] = "full"
    vision: Literal["frozen", "projector", "all"] = Field(
        "frozen", description="of a model that reads pictures what else trains: nothing, the projector, the tower too"
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)  # recipes from before there was the choice stay what they were
        return written if self.vision != "frozen" else {key: one for key, one in written.items() if key != "vision"}


class Freeze(Settings):
    """Train only the top layers (and nothing of the embedding)."""

    name: Literal["freeze"] = "freeze"
    trainable_layers: int = Field(2, ge=1, description="how many of the last layers are trained")
    frozen_layers: int | None = Field(None, ge=0, description="instead: how many of the first layers stay frozen")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Freeze":
        default = type(self).model_fields["trainable_layers"].default  # which a record that was read back names too
        if self.frozen_layers is not None and self.trainable_layers != default:
            raise ValueError("give trainable_layers or frozen_layers, not both")
        return self


class _LowRank(Settings):
    """What LoRA is made of, on whatever base."""

    rank: int = Field(8, ge=1, description="width of the adapters")
    alpha: float | None = Field(None, gt=0, description="default: twice the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs set to zero in training")
    target: tuple[str, ...] = Field(("all-linear",), description="module names, or all-linear")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank), which does not fade at high ranks")
    dora: bool = Field(False, description="train length and direction of the weights apart")
    lr_ratio: float | None = Field(
        None, ge=1, description="LoRA+: the second matrices learn this many times faster; 4 to 16 is usual"
    )
    modules_to_save: tuple[str, ...] = Field((), description="modules trained whole and saved with the adapter")


class Lora(_LowRank):
    """Train low-rank adapters through PEFT (Hu et al. 2021, arXiv 2106.09685).

    Variants: rank-stabilised (Kalajdzievski 2023, arXiv 2312.03732), DoRA (Liu et al. 2024, arXiv 2402.09353),
    LoRA+ (Hayou et al. 2024, arXiv 2402.12354), and as beginnings PiSSA (Meng et al. 2024, arXiv 2404.02948) and
    OLoRA (Büyükakyüz 2024, arXiv 2406.01775). These two move a part of the base weights into the adapter while
    training; what is saved is an adapter of twice the rank that sits on the base as it was.
    """

    name: Literal["lora"] = "lora"
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = Field(
        "default", description="where the adapters start; pissa and olora are saved at twice the rank"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Lora":
        if self.dora and self.init in MOVES_THE_BASE:
            raise ValueError(f"init {self.init} cannot be turned back into an adapter on the base model with dora")
        if self.modules_to_save and self.init in MOVES_THE_BASE:
            raise ValueError(f"init {self.init} cannot be turned back into an adapter that carries modules_to_save")
        if self.init == "orthogonal" and self.rank % 2:
            raise ValueError("init orthogonal needs an even rank")
        return self


class QLora(_LowRank):
    """LoRA on a base held in 4 or 8 bits by bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314); GPU or CPU."""

    name: Literal["qlora"] = "qlora"
    bits: Literal[4, 8] = Field(4, description="how the base is held while training")
    quant: Literal["nf4", "fp4"] = Field("nf4", description="number format of 4 bits; 8 bits have one format")
    double_quant: bool = Field(True, description="4 bits: also hold the scales in 8 bits")
    answers: Literal["stored", "quantised"] = Field(
        "stored", description="the base under the adapter in evaluation and serving: as stored, or as trained on"
    )


class Adapter(Settings):
    """A bottleneck beside what each attention and MLP block writes back (parallel adapter, arXiv 2110.04366).

    PEFT has no adapter with a non-linear bottleneck (Houlsby et al. 2019, arXiv 1902.00751); its nearest is the
    linear one of He et al. 2022, section 4.2, on the output projections of both blocks, scaled by a constant.
    """

    name: Literal["adapter"] = "adapter"
    width: int = Field(32, ge=1, description="units of the bottleneck")
    scale: float = Field(4.0, gt=0, description="factor of what the bottleneck adds")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs set to zero in training")
    target: tuple[str, ...] = Field((), description="output projections; default: found by their usual names")


class Ia3(Settings):
    """One factor for each key, value and inner MLP activation (Liu et al. 2022, arXiv 2205.05638)."""

    name: Literal["ia3"] = "ia3"
    target: tuple[str, ...] = Field((), description="module names; default: PEFT's choice for this model")
    feedforward: tuple[str, ...] = Field((), description="those of target whose input is scaled, not their output")


class AdaLora(Settings):
    """LoRA that moves its rank to where it matters while training (Zhang et al. 2023, arXiv 2303.10512)."""

    name: Literal["adalora"] = "adalora"
    rank: int = Field(8, ge=1, description="mean rank at the end")
    start_rank: int | None = Field(None, ge=1, description="rank of every module at first; default: one and a half")
    alpha: float | None = Field(None, gt=0, description="default: twice the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs set to zero in training")
    target: tuple[str, ...] = Field(("all-linear",), description="module names, or all-linear")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps before ranks are taken away")
    settle: float = Field(0.3, ge=0, lt=1, description="share of the steps after the last rank is taken away")
    orthogonal: float = Field(0.1, gt=0, description="weight of the pull towards orthogonal factors")

    @model_validator(mode="after")
    def _falls(self) -> "AdaLora":
        if self.start_rank is not None and self.start_rank <= self.rank:
            raise ValueError("start_rank must be higher than rank, or there is nothing to take away")
        if self.warmup + self.settle >= 1:
            raise ValueError("warmup and settle leave no steps in which ranks are taken away")
        return self


class Oft(Settings):
    """Turn the weights without stretching them: orthogonal factors (Qiu et al. 2023, arXiv 2306.07280)."""

    name: Literal["oft"] = "oft"
    block_size: int = Field(32, ge=2, description="size of the rotated blocks; must divide the modules' inputs")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the blocks left as they are in training")
    target: tuple[str, ...] = Field(("all-linear",), description="module names, or all-linear")


class Prompt(Settings):
    """Train virtual tokens before every text (Lester et al. 2021, arXiv 2104.08691)."""

    name: Literal["prompt"] = "prompt"
    tokens: int = Field(16, ge=1, description="virtual tokens; the context is shorter by as many")


class PTuning(Settings):
    """Train virtual tokens through a small network (Liu et al. 2021, arXiv 2103.10385), which is not saved."""

    name: Literal["p-tuning"] = "p-tuning"
    tokens: int = Field(16, ge=1, description="virtual tokens; the context is shorter by as many")
    width: int = Field(128, ge=1, description="inner width of the network")


class Prefix(Settings):
    """Train keys and values before every text, in every layer (Li and Liang 2021, arXiv 2101.00190)."""

    name: Literal["prefix"] = "prefix"
    tokens: int = Field(16, ge=1, description="virtual tokens; the context is shorter by as many")


def named(value: Any) -> Any:
    """`lora` is short for `{name: lora}`."""
    return {"name": value} if isinstance(value, str) else value


Tune = Annotated[
    Full | Freeze | Lora | QLora | Adapter | Ia3 | AdaLora | Oft | Prompt | PTuning | Prefix,
    Field(discriminator="name"),
    BeforeValidator(named),
]
TUNERS: tuple[str, ...] = (
    "full",
    "freeze",
    "lora",
    "qlora",
    "adapter",
    "ia3",
    "adalora",
    "oft",
    "prompt",
    "p-tuning",
    "prefix",
)
