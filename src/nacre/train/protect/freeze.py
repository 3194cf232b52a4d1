"""Freezing: a part of the model is left exactly as it was, or is let go block by block.

Source: the gradual way is Howard & Ruder 2018, ULMFiT (arXiv 1801.06146), section 3.3: the top block trains first,
and at equal steps one block more joins it. The fixed way is what everybody does by hand.
What is frozen keeps its weights to the bit: no gradient, no momentum, no weight decay.
It is no protection of answers: in this project's trials on real tasks, and in others', a model with most blocks
frozen forgot past tasks as much as one without. It saves memory and time, and leaves the frozen part as it is.
Cost: less than nothing with a fixed choice (no gradients of the frozen part); nothing more with `gradual`.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from pydantic import Field, model_validator

from nacre.base.config import Settings
from nacre.base.errors import InputError, unknown
from nacre.model.load import decoder_layers
from nacre.train.protect.base import Protection, Step

WHERE = "protect: freeze"


class Freeze(Protection):
    """Keep blocks, or all but the named modules, from being trained."""

    name = "freeze"
    pictures = True
    tuners = ("full", "lora", "qlora")
    reshapes = True
    steered = False

    class Config(Settings):
        """Options of freezing."""

        first: int = Field(0, ge=0, description="freeze so many of the first blocks, and the embedding with them")
        last: int = Field(0, ge=0, description="freeze so many of the last blocks")
        trained: tuple[str, ...] = Field(
            (), description="freeze all but the modules of these names or patterns, e.g. mlp or layers.3.*"
        )
        gradual: bool = Field(False, description="begin with the top block and let one more join at equal steps")

        @model_validator(mode="after")
        def _one_meaning(self) -> "Freeze.Config":
            if not (self.first or self.last or self.trained or self.gradual):
                raise ValueError("nothing would be frozen: give first, last, trained or gradual")
            if self.trained and (self.first or self.last or self.gradual):
                raise ValueError("'trained' names all that trains: leave first, last and gradual out")
            if self.gradual and self.last:
                raise ValueError("'gradual' begins at the top, which 'last' would freeze: give one of them")
            return self

    @classmethod
    def needs_gradients(cls, config: Any) -> bool:
        """Only what is let go block by block has gradients that must not reach the optimizer."""
        return config is None or bool(config.gradual)

    def model(self, model: Any) -> Any:
        """Mark what stays.

        Raises:
            InputError: more blocks than there are, a pattern that names no module, or nothing is left to train.
        """
        before = dict(_trained(model))
        if self.config.trained:
            self._all_but(model, before)
        else:
            self._blocks(model)
        left = dict(_trained(model))
        if not left:
            fix = "freeze less, or tune what is not frozen"
            raise InputError("nothing is left to train", where=WHERE, fix=fix)
        self._groups = _from_the_top(model, left) if self.config.gradual else []
        self._open = 1
        for place, group in enumerate(self._groups):
            for weight in group:
                self._hook(weight, place)
        counts = f"{_size(left):,} of the tuner's {_size(before):,} parameters train"
        stays = f"at first the top block alone, at the end all {len(self._groups)}" if self._groups else self._said()
        self.notes.append(f"freeze: {stays}; {counts}")
        return model

    def _blocks(self, model: Any) -> None:
        layers = decoder_layers(model)
        first, last = self.config.first, self.config.last
        if first + last >= len(layers):
            raise InputError(
                f"{first + last} of {len(layers)} blocks would be frozen",
                where=WHERE,
                fix=f"the model has {len(layers)} blocks: leave at least one to train",
            )
        for layer in [*layers[:first], *layers[len(layers) - last :]]:
            layer.requires_grad_(False)
        if first:
            causal = model.get_base_model() if hasattr(model, "get_base_model") else model
            causal.get_input_embeddings().requires_grad_(False)

    def _all_but(self, model: Any, trained: Mapping[str, torch.nn.Parameter]) -> None:
        wanted = set()
        for pattern in self.config.trained:
            found = {name for name in trained if fnmatchcase(f".{name}.", f"*.{pattern}.*")}
            if not found:
                known = {part for name in trained for part in name.split(".")[:-1] if not part.isdigit()}
                raise unknown("module to train", pattern, known, where=f"{WHERE}, trained")
            wanted |= found
        for name, weight in trained.items():
            weight.requires_grad_(name in wanted)

    def _said(self) -> str:
        if self.config.trained:
            return f"all but {', '.join(self.config.trained)} stays as it is"
        first, last = self.config.first, self.config.last
        named = [f"the first {first} blocks and the embedding"] * bool(first) + [f"the last {last} blocks"] * bool(last)
        return f"{' and '.join(named)} stay as they are"

    def _hook(self, weight: torch.nn.Parameter, place: int) -> None:
        """What is not let go yet must not count when gradients are clipped."""
        weight.register_hook(  # type: ignore[no-untyped-call] # torch has no types here
            lambda grad: None if place < self._open else grad * 0
        )

    def gradient(self, model: Any, step: Step) -> None:
        """Take the gradient from what is not let go yet: the optimizer passes it by, momentum and decay included."""
        for group in self._groups[self._open :]:
            for weight in group:
                weight.grad = None
        self._open = 1 + (step.number + 1) * len(self._groups) // step.total

    def state(self) -> dict[str, torch.Tensor]:
        """How many groups the next step trains."""
        return {"open": torch.tensor(self._open)} if self._groups else {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with as many groups."""
        if "open" in state:
            self._open = int(state["open"])


def _trained(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


def _size(weights: Mapping[str, torch.nn.Parameter]) -> int:
    return sum(weight.numel() for weight in weights.values())


def _from_the_top(model: Any, left: Mapping[str, torch.nn.Parameter]) -> list[Sequence[torch.nn.Parameter]]:
    """What trains, one group a block, the top one first; with it goes what lies above it, with the last one the
    embedding.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    embedding = {id(weight) for weight in causal.get_input_embeddings().parameters()}
    blocks = [{id(weight) for weight in layer.parameters()} for layer in decoder_layers(model)]
    inside = set().union(embedding, *blocks)
    groups = [[weight for weight in left.values() if id(weight) in block] for block in reversed(blocks)]
    groups = [group for group in groups if group] or [[]]
    groups[0] += [weight for weight in left.values() if id(weight) not in inside]
    groups[-1] += [weight for weight in left.values() if id(weight) in embedding]
    return [group for group in groups if group]
