"""Merging: the previous version and the new one are put together as task vectors.

Sources: task arithmetic, Ilharco et al. 2022 (arXiv 2212.04089); TIES, Yadav et al. 2023 (arXiv 2306.01708); DARE,
Yu et al. 2023 (arXiv 2311.03099); the formulas are PEFT's (`peft.utils.merge_utils`), applied to each weight matrix.
A task vector is what a version adds to the weights that both began from: for adapters B A, on the base model; for
whole models the difference from the weights training started from. With w the `weight` of the new one:
    linear       (1 - w) old + w new
    ties         the largest `density` of each; per number the sign with the greater sum; mean of those that agree
    dare_linear  each number kept with probability `density` and divided by it; then linear
    dare_ties    kept and divided so, then signs and mean as in ties
The mean of the ties methods is weighted 2 (1 - w) to 2 w, so that w = 0.5 is the papers' own.
Where training began from the previous version itself, a whole model has one vector alone: w times the pruned new one
is kept. An adapter that went on from the previous one holds that one's knowledge too.
Merged adapters are brought back to a low rank by singular values; the share that this loses is said.
Cost: nothing while training; then one reading of the previous weights, and for adapters a decomposition a layer.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from peft.utils.merge_utils import dare_linear, dare_ties, task_arithmetic, ties
from pydantic import Field, model_validator

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.train.protect.adapters import Pair, lora_layers, pairs, plain_config, put_adapter
from nacre.train.protect.base import Protection
from nacre.train.protect.plain import plain_weights
from nacre.train.teacher import PREVIOUS

Method = Literal["linear", "ties", "dare_linear", "dare_ties"]
PRUNED = {"ties": ties, "dare_linear": dare_linear, "dare_ties": dare_ties}


class Merge(Protection):
    """Put the previous version and the new one together."""

    name = "merge"
    pictures = True
    tuners = ("full", "freeze", "lora", "qlora")
    stages = ("sft", "pt", "dpo", "kto")  # the head of a reward model is not in the version before
    contradicts: ClassVar[dict[str, str]] = {
        "average": "both move the result back towards the previous version",
        "orthogonal": "the adapter's earlier part must stay as it was",
        "block-expansion": "the version before has fewer blocks, so its weights cannot be merged with these",
    }

    class Config(Settings):
        """Options of merging."""

        method: Method = Field("linear", description="how the two are put together")
        weight: float = Field(0.5, gt=0, lt=1, description="share of the new version")
        density: float | None = Field(None, gt=0, lt=1, description="share of the numbers that is kept; default: 0.5")
        rank: int | None = Field(None, ge=1, description="rank of a merged adapter; default: that of the new one")

        @model_validator(mode="after")
        def _meant(self) -> "Merge.Config":
            if self.method == "linear" and self.density is not None:
                raise ValueError("'linear' keeps every number: leave density out, or choose another method")
            return self

    def model(self, model: Any) -> Any:
        """See whether there is something to merge.

        Raises:
            InputError: adapters of different base models, or with more than their matrices; a rank for whole models.
        """
        if self.context.tune.name in ("lora", "qlora"):
            plain_config(model, self.name)
            if self.context.previous.model != self.context.start.model:
                raise InputError(
                    "the previous version's adapter sits on another base model",
                    where="protect: merge",
                    fix="leave merge out, or train with tune: full",
                )
        elif self.config.rank is not None:
            fix = "leave rank out: whole models are merged number by number"
            raise InputError("a rank belongs to adapters", where="protect: merge, rank", fix=fix)
        return model

    def finish(self, model: Any) -> Any:
        """Merge."""
        density = f", density {self._density}" if self.config.method != "linear" else ""
        self.notes.append(f"merge: {self.config.method}, {self.config.weight} of the new version{density}")
        with torch.random.fork_rng():
            torch.manual_seed(self.context.seed)
            return self._adapters(model) if self.context.tune.name in ("lora", "qlora") else self._whole(model)

    @property
    def _density(self) -> float:
        return 0.5 if self.config.density is None else self.config.density

    def _merged(self, old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        return merged([old, new] if old is not None else [new], self.config.method, self.config.weight, self._density)

    def _adapters(self, model: Any) -> Any:
        config = plain_config(model, self.name)
        scaling = next(layer.scaling["default"] for _, layer in lora_layers(model))
        new, old = pairs(model), self._previous_pairs(model)
        if not old:
            self.notes.append("merge: the previous version has no adapter, so its vector is zero")
        # the two ranks' sum would lose nothing, but it doubles with every increment
        largest = max(min(A_RI.shape[1], B_OR.shape[0]) for A_RI, B_OR in new.values())
        rank = min(self.config.rank or config.r, largest)
        result, lost = {}, []
        for where, (A_RI, B_OR) in new.items():
            before = old[where].B_OR @ old[where].A_RI if where in old else None
            delta_OI = self._merged(before, B_OR @ A_RI)
            result[where], share = low_rank(delta_OI, rank)
            lost.append(share)
        put_adapter(model, result, config, rank=rank, scaling=scaling)
        self.notes.append(f"merge: adapter of rank {rank}; that rank loses {max(lost):.1%} of a layer at most")
        return model

    def _previous_pairs(self, model: Any) -> dict[str, Pair]:
        previous = self.context.previous
        if previous.adapter is None:
            return {}
        if PREVIOUS not in model.peft_config:
            training = model.training
            model.load_adapter(str(previous.adapter), adapter_name=PREVIOUS, is_trainable=False)
            model.set_adapter("default")
            model.train(training)
        return pairs(model, PREVIOUS)

    def _whole(self, model: Any) -> Any:
        start = plain_weights(self.context.start)
        apart = self.context.previous != self.context.start
        if not apart:
            self.notes.append("merge: training began from the previous version, so its own vector is zero")
        previous = plain_weights(self.context.previous) if apart else None
        with torch.no_grad():
            for name, weight in model.named_parameters():
                before = start[name].to(weight.device)
                if torch.equal(before, weight) and previous is None:
                    continue
                old = previous[name].to(weight.device) - before if previous is not None else None
                weight.copy_(before + self._merged(old, weight - before))
        return model


def merged(vectors: Sequence[torch.Tensor], method: Method, weight: float, density: float) -> torch.Tensor:
    """One tensor of the old version's difference and the new one's, or of the new one's alone (see the module)."""
    both = 2.0 if method.endswith("ties") else 1.0
    shares = [both * (1 - weight), both * weight] if len(vectors) > 1 else [weight]
    weights = torch.tensor(shares, device=vectors[0].device)
    if method == "linear":
        return torch.as_tensor(task_arithmetic(list(vectors), weights))
    return torch.as_tensor(PRUNED[method](list(vectors), weights, density))


def low_rank(delta_OI: torch.Tensor, rank: int) -> tuple[Pair, float]:
    """The nearest product of that rank, and the share of the difference (its norm) that is lost by it."""
    U, S, V = torch.linalg.svd(delta_OI.float(), full_matrices=False)
    root = S[:rank].sqrt()
    pair = Pair(root[:, None] * V[:rank], U[:, :rank] * root)
    return pair, float(S[rank:].norm() / S.norm().clamp(min=1e-30))
