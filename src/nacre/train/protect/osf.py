"""Orthogonal subspace fine-tuning: the strong directions of every weight matrix are kept, the weak ones learn.

Source: Nayak et al. 2025 (arXiv 2504.07097), through PEFT's OSF: W = U S V^T is split by its singular values; the
strongest directions are frozen, the others train, kept orthogonal to them. How many are frozen grows with what there
is to keep: a share of k / (k + 1) of them with k past tasks, where the base model's own ability counts as one task
when no row of an earlier one is kept. (PEFT leaves the growth to its caller; this rule is this project's choice.)
PEFT projects the gradients, and an optimizer like Adam leaves the subspace again by scaling each number by itself:
here the weights are projected too, after every step, so that on the frozen input directions the layer still answers
exactly as before.
Embeddings, norms, the output head and what sees pictures stay as they are. The result is merged: a plain model again.
Cost: a singular value decomposition of each linear layer before training; memory for about two copies of the trained
directions beside the model; two small products more in each layer, and a projection after each step.
"""

import re
from typing import Any, ClassVar, Literal

import torch
from peft import OSFConfig, get_peft_model
from peft.tuners.osf import OSFLayer
from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.model.pictures import sight_pattern, vision_names
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.base import Protection, Step

_OWN_CHOICE = "both decide which part of the weights trains"


class Osf(Protection):
    """Train every linear layer outside of its strongest singular directions only."""

    name = "osf"
    pictures = True
    tuners = ("full",)
    stages = ("sft", "pt", "dpo", "kto")  # a reward model's head, one row, has no weak direction to train
    contradicts: ClassVar[dict[str, str]] = {"freeze": _OWN_CHOICE, "block-expansion": _OWN_CHOICE}
    reshapes = True
    held_copies = 2
    steered = False

    class Config(Settings):
        """Options of OSF."""

        frozen: float | Literal["auto"] = Field(
            "auto", gt=0, lt=1, description="share of the singular directions that is frozen; auto: grows with the past"
        )

    def model(self, model: Any) -> Any:
        """Split the linear layers.

        Raises:
            InputError: so small a share leaves no direction to freeze, or there is no layer that can be split.
        """
        past = max(1, sum(bool(rows) for rows in self.context.memory.values()))
        frozen = past / (past + 1) if self.config.frozen == "auto" else self.config.frozen
        why = f" ({past} past task{'s' * (past > 1)})" if self.config.frozen == "auto" else ""
        linear = _to_split(model)
        if not linear:
            what = f"{type(model).__name__} has no linear layers of torch's kind, which alone can be split"
            raise InputError(what, where="protect: osf", fix="leave it out; 'freeze' or replay work with every model")
        smallest = min(min(one.weight.shape) for one in linear.values())
        if int(smallest * frozen) < 1:
            fix = f"the smallest layer has {smallest} directions: take at least {1 / smallest:.3f}"
            raise InputError(f"a share of {frozen} freezes no direction", where="protect: osf, frozen", fix=fix)
        training = model.training
        split = get_peft_model(model, OSFConfig(effective_rank=float(frozen), target_modules=list(linear)))
        self._layers = [layer for layer in split.modules() if isinstance(layer, OSFLayer)]
        self._after = AfterStep(lambda _: self._project())
        counts = f"the rest of {len(self._layers)} linear layers trains"
        counts += ", what sees stays as it is" if vision_names(model) else ""
        self.notes.append(f"osf: {frozen:.0%} of the singular directions frozen{why}, {counts}")
        return split.train(training)

    def gradient(self, model: Any, step: Step) -> None:
        """See to it that after each step the weights are projected, as PEFT's hooks have projected the gradients."""
        self._after.hook(step.optimizer)

    @torch.no_grad()
    def _project(self) -> None:
        """Take from U and V what lies in the frozen directions.

        PEFT keeps the frozen ones of a matrix's longer side alone; on the shorter side they are all that the
        starting weak ones are not.
        """
        for layer in self._layers:
            for name, weak in layer.osf_svd_params.items():
                U, V = weak["U_low"], weak["V_low"]
                if name in layer._osf_U_high:
                    strong = layer._osf_U_high[name]
                    U.sub_(strong @ (strong.T @ U))
                else:
                    begun = layer._osf_U_low_init[name]
                    U.copy_(begun @ (begun.T @ U))
                if name in layer._osf_V_high:
                    strong = layer._osf_V_high[name]
                    V.sub_((V @ strong.T) @ strong)
                else:
                    begun = layer._osf_V_low_init[name]
                    V.copy_((V @ begun.T) @ begun)

    def finish(self, model: Any) -> Any:
        """A plain model with merged weights."""
        self._layers = []
        return model.merge_and_unload()


def _to_split(model: Any) -> dict[str, torch.nn.Linear]:
    """The linear layers by name, without the output head and what sees; PEFT's OSF knows no layers to leave out."""
    sight, head = sight_pattern(model), model.get_output_embeddings()
    return {
        name: one
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and one is not head and not (sight and re.fullmatch(sight, name))
    }
