"""What the parties of a federation are told: how to train, and nothing that is anyone's row."""

from pathlib import Path
from typing import Any

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.hashing import content_hash
from nacre.records import Recipe, Train
from nacre.records.tune import MOVES_THE_BASE, Lora
from nacre.registry.fingerprint import file_hashes

_TELLING = ("config.json", "tokenizer", "vocab", "merges", "special_tokens", "chat_template")
LOCAL = ("distill", "l2", "lm", "sdft")  # protections that need the version before and a party's own rows alone
HELD: tuple[dict[str, Any], ...] = ({"name": "distill", "rows": 1, "cache": 256},)  # what `auto` stands for here
_ALONE: dict[str, Any] = {  # a party trains in one process, and tells nobody of it
    "processes": 1,
    "sharding": "none",
    "deepspeed": None,
    "report_to": (),
}


class Terms(Settings):
    """What every party needs to know.

    Attributes:
        task: name of the task that is learned.
        base: fingerprint of the model that the adapter sits on, which every party must have itself.
        tune: which adapter.
        train: the optimiser's settings.
        protect: what acts against forgetting at the parties.
        fresh: the adapter that the first round starts from is new: the version before is the model without it.
        clip: longest update that a party may send, as a norm; longer ones are shortened.
        secure: answers are masked, so that only their sum can be read.
        held_out: hashes of the dev rows, which nobody may train on.
    """

    task: str
    base: str
    tune: Lora
    train: Train
    protect: tuple[dict[str, Any], ...]
    fresh: bool
    clip: float | None = None
    secure: bool = False
    held_out: tuple[str, ...] = ()

    def recipe(self, number: int) -> Recipe:
        """How a party trains in round `number`: always alone, whatever it is told, each round in another order."""
        train = self.train.model_copy(update={**_ALONE, "seed": self.train.seed + number})
        return Recipe(tune=self.tune, train=train, protect=self.protect)


def local_recipe(recipe: Recipe, epochs: float) -> tuple[Recipe, list[str]]:
    """The recipe of a workspace as the parties can follow it, and what of it they cannot, in sentences.

    Raises:
        InputError: no plain LoRA, a stage or a rate that parties cannot share, or protections that need old rows.
    """
    tune, train = recipe.tune, recipe.train
    if not isinstance(tune, Lora):
        fix = "tune: lora in nacre.yaml"
        raise InputError(f"parties send each other LoRA adapters, not what '{tune.name}' trains", where="tune", fix=fix)
    if tune.init in MOVES_THE_BASE or tune.modules_to_save:
        what = f"init {tune.init}" if tune.init in MOVES_THE_BASE else "modules_to_save"
        raise InputError(
            f"with {what}, more than LoRA's own matrices would have to travel", where="tune", fix="drop it"
        )
    if train.stage == "rm":
        raise InputError("a reward model's head is no adapter", where="train.stage", fix="sft, pt, dpo or kto")
    if train.learning_rate == "pilot":
        fix = "auto, or a number"
        raise InputError("every party would find another rate", where="train.learning_rate: pilot", fix=fix)
    ignored = [name for name, value in _ALONE.items() if getattr(train, name) != value]
    notes = [f"train.{name} does not hold at the parties, who train in one process each" for name in ignored]
    train = train.model_copy(update={**_ALONE, "epochs": epochs, "min_steps": 1})  # a round is as long as it is said
    protect, told = _protect(recipe)
    return Recipe(tune=tune, train=train, protect=protect), notes + told


def _protect(recipe: Recipe) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The protections that parties can use.

    Raises:
        InputError: others are named.
    """
    if recipe.protect == "auto":
        why = "protect auto: parties have no old rows, so general ability is held on generic text, and the gate judges"
        return HELD, [why]
    names = [str(entry.get("name")) for entry in recipe.protect]
    others = [name for name in names if name not in LOCAL]
    if others:
        raise InputError(
            f"{' and '.join(others)} cannot act at the parties: it needs old rows, another adapter or another tuner",
            where="protect",
            fix=f"auto, none, or some of {', '.join(LOCAL)}",
        )
    return recipe.protect, []


def model_print(folder: Path, cache: Path) -> str:
    """Hash of what decides that two copies of a model are the same: weights, sizes, tokenizer. No record beside them.

    Raises:
        InputError: the folder holds no model.
    """
    hashes = file_hashes(folder, cache)
    return content_hash({name: hashes[name] for name in hashes if name.startswith(_TELLING) or ".safetensors" in name})
