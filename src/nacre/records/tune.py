"""Which parameters train: one class for each tuner, told apart by its name."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from nacre.base.config import Settings


class Full(Settings):
    """Train every parameter."""

    name: Literal["full"] = "full"


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


class Lora(Settings):
    """Train low-rank adapters through PEFT (Hu et al. 2021, arXiv 2106.09685)."""

    name: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, description="width of the adapters")
    alpha: float | None = Field(None, gt=0, description="default: twice the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs set to zero in training")
    target: tuple[str, ...] = Field(("all-linear",), description="module names, or all-linear")


def named(value: Any) -> Any:
    """`lora` is short for `{name: lora}`."""
    return {"name": value} if isinstance(value, str) else value


Tune = Annotated[Full | Freeze | Lora, Field(discriminator="name"), BeforeValidator(named)]
