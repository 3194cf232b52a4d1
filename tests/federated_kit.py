"""Parties for tests of federations: some that only pretend to train, and some that lie or vanish."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nacre.train.federated.screen import Answer
from nacre.train.federated.tensors import Arrays
from nacre.train.federated.terms import Terms

TERMS: dict[str, Any] = {
    "task": "feed",
    "base": "toy",
    "tune": {"name": "lora", "rank": 2},
    "train": {"epochs": 1},
    "protect": (),
    "fresh": True,
}


def adapter(seed: int = 0) -> Arrays:
    """Tensors as an adapter has them."""
    draw = np.random.default_rng(seed)
    shapes = {"q.lora_A": (2, 6), "q.lora_B": (6, 2), "v.lora_A": (2, 6)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def moved(arrays: Arrays, by: float) -> Arrays:
    """Every number changed by so much."""
    return {name: one + np.float32(by) for name, one in arrays.items()}


@dataclass
class Scripted:
    """A party whose answer is the adapter that came in, changed by a fixed amount: what a mean makes of it is known."""

    by: float
    count: int = 10
    terms: Terms = field(default_factory=lambda: Terms.model_validate(TERMS))
    seen: list[int] = field(default_factory=list)

    @property
    def shape(self) -> Arrays:
        return adapter()

    def learn(self, number: int, arrays: Arrays) -> Answer:
        self.seen.append(number)
        return Answer(node=0, arrays=moved(arrays, self.by), rows=self.count, loss=1.0)


def scripted_apps(amounts: Sequence[float], **options: Any) -> dict[int, Any]:
    """An app for each amount, numbered from 1."""
    from nacre.train.federated.app import PartyApp

    return {place: PartyApp(Scripted(by, **options)) for place, by in enumerate(amounts, 1)}


def masked_apps(amounts: Sequence[float]) -> dict[int, Any]:
    """The same, with terms that ask for masks."""
    return scripted_apps(amounts, terms=Terms.model_validate({**TERMS, "secure": True}))


def changing(app: Any, change: Callable[[dict[str, Any], Any, Any], dict[str, Any] | None]) -> Any:
    """An app whose honest answer is changed on the way: `change(answer, message, reply)` gives the arrays to send."""
    from nacre.train.federated.app import ARRAYS, record_of

    def lie(message: Any, context: Any) -> Any:
        reply = app(message, context)
        arrays = {name: one.numpy() for name, one in reply.content[ARRAYS].items()}
        changed = change(arrays, message, reply)
        if changed is not None:
            reply.content[ARRAYS] = record_of(changed)
        return reply

    return lie


def backwards(app: Any, times: float) -> Any:
    """A liar in a normal voice: it sends its update turned round, and `times` as long."""
    from nacre.train.federated.app import ARRAYS

    def turn(arrays: dict[str, Any], message: Any, _: Any) -> dict[str, Any]:
        start = {name: one.numpy() for name, one in message.content[ARRAYS].items()}
        return {name: start[name] - np.float32(times) * (one - start[name]) for name, one in arrays.items()}

    return changing(app, turn)


def vanishing(app: Any, after: int) -> Any:
    """An app that answers so many messages and then nothing."""
    left = [after]

    def answer(message: Any, context: Any) -> Any:
        left[0] -= 1
        return app(message, context) if left[0] >= 0 else None

    return answer
