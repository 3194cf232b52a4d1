"""Intruder dimensions: strong directions that an adapter put where the base model had none, made weaker afterwards.

Source: Shuttleworth et al. 2024 (arXiv 2410.21228), through PEFT's `reduce_intruder_dimension`: of the strongest
singular directions of W + B A, those that resemble no direction of W (largest |cosine| below `threshold`) are
multiplied by `keep`, and what then differs from W is brought back to the adapter's rank. Such directions are where
LoRA forgets more than full training does; weakening them costs some of what was just learned. How much is a matter of
the model: on a small one PEFT's 0.75 changed next to nothing, and only factors near 0 kept old answers.
Cost: after training, two singular value decompositions of each adapted layer, a third where something is found.
"""

from typing import Any, ClassVar

from peft.tuners.lora.intruders import reduce_intruder_dimension
from pydantic import Field

from nacre.base.config import Settings
from nacre.train.protect.adapters import DEFAULT, lora_layers, pairs, plain_config, put_adapter
from nacre.train.protect.base import Protection

_REDUCED = "nacre-reduced"


class Intruder(Protection):
    """Weaken the directions that the base model did not have."""

    name = "intruder"
    pictures = True
    tuners = ("lora",)
    contradicts: ClassVar[dict[str, str]] = {"orthogonal": "the adapter's earlier part must stay as it was"}

    class Config(Settings):
        """Options of intruder reduction."""

        keep: float = Field(0.75, ge=0, lt=1, description="factor on intruding directions: 0 takes them out whole")
        threshold: float = Field(0.5, gt=0, le=1, description="|cosine| to every base direction that makes an intruder")
        top: int = Field(10, ge=1, description="how many of the strongest directions of a layer are looked at")

    def model(self, model: Any) -> Any:
        """Nothing is changed yet.

        Raises:
            InputError: the adapter is more than its matrices (DoRA, ranks of single modules).
        """
        plain_config(model, self.name)
        return model

    def finish(self, model: Any) -> Any:
        """Find them and weaken them."""
        said: list[str] = []
        reduce_intruder_dimension(
            model,
            old_adapter_name=DEFAULT,
            new_adapter_name=_REDUCED,
            top_k=self.config.top,
            threshold_epsilon=self.config.threshold,
            mitigation_lambda=self.config.keep,
            logging_sink=said.append,
        )
        found = [int(line.rpartition(" ")[2]) for line in said if ": Intruders: " in line]
        config = plain_config(model, self.name)
        scaling = next(layer.scaling[DEFAULT] for _, layer in lora_layers(model))
        reduced = pairs(model, _REDUCED)
        model.set_adapter(DEFAULT)
        model.delete_adapter(_REDUCED)
        put_adapter(model, reduced, config, rank=config.r, scaling=scaling)
        layers = sum(1 for _ in lora_layers(model))
        where = f"{sum(found)} intruding directions in {len(found)} of {layers} layers"
        self.notes.append(f"intruder: {where} multiplied by {self.config.keep}")
        return model
