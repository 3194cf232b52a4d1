"""Which settings make a model fit a machine: tried in the order of what they cost, by the estimate alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from nacre.data.report.records import Said
from nacre.data.schedule import plan_steps
from nacre.records import Recipe
from nacre.records.tune import Tune
from nacre.train.advise.families import Base
from nacre.train.advise.hardware import Hardware
from nacre.train.advise.workload import Workload
from nacre.train.arguments import BF16_PARAMETERS
from nacre.train.auto import epochs as usual_epochs
from nacre.train.estimate import GIB, Estimate, Rows, estimate, size

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
FEW, INCREMENT, MANY = 300, 1000, 10_000  # rows: a handful, what an increment wants, enough to train everything
FEW_EPOCHS, TEXT_EPOCHS = 10.0, 2.0
CARDS_GB = (8, 12, 16, 24, 32, 40, 48, 80, 141)
ADVISED = ("batch_size", "accumulation", "max_length", "precision", "gradient_checkpointing")
SHORTEST = 128  # tokens below which rows are not cut to make a model fit


@dataclass(frozen=True)
class Plan:
    """A model with settings on a machine; where it does not fit, those that need least."""

    base: Base
    hardware: Hardware
    recipe: Recipe
    estimate: Estimate
    fits: bool

    @property
    def needed_bytes(self) -> float:
        """With what is kept free because the estimate is not sure."""
        return self.hardware.margin * self.estimate.memory_bytes

    @property
    def micro_batch(self) -> int:
        """Rows of one pass on one card."""
        train = self.recipe.train
        return max(1, train.batch_size // train.accumulation // train.processes)

    @property
    def yaml(self) -> str:
        """Lines for `nacre.yaml`: what is advised, and what else is not nacre's default."""
        tune = self.recipe.tune.model_dump(mode="json", exclude_defaults=True)
        train = self.recipe.train.model_dump(mode="json", include=set(ADVISED))
        train |= self.recipe.train.model_dump(mode="json", exclude_defaults=True)
        lines: dict[str, Any] = {
            "model": self.base.name,
            "tune": {"name": self.recipe.tune.name} | tune,
            "train": train,
        }
        return yaml.safe_dump(lines, sort_keys=False, allow_unicode=True)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        train = self.recipe.train
        return {
            "model": self.base.name,
            "family": self.base.family,
            "licence": self.base.licence,
            "parameters": self.base.sizes.parameters,
            "hardware": self.hardware.name.en,
            "fits": self.fits,
            "tune": self.recipe.tune.name,
            "precision": train.precision,
            "batch_size": train.batch_size,
            "accumulation": train.accumulation,
            "micro_batch": self.micro_batch,
            "max_length": train.max_length,
            "gradient_checkpointing": bool(train.gradient_checkpointing),
            "processes": train.processes,
            "sharding": train.sharding,
            "memory_bytes": round(self.estimate.memory_bytes),
            "memory_parts": {name: round(part) for name, part in self.estimate.parts.items() if part},
            "needed_bytes": round(self.needed_bytes),
            "available_bytes": round(self.hardware.device.memory_bytes),
            "seconds": round(self.estimate.seconds, 1),
        }


def plan(base: Base, work: Workload, hardware: Hardware, length: int | None = None) -> Plan:
    """The first settings that fit, tried in the order of what they cost; or those that need least.

    `length` is that of the rows, where they are to be cut.
    """
    least: Plan | None = None
    for recipe in _recipes(base, work, hardware, length or length_of(base, work)):
        found = estimate(recipe, base.start, _rows(recipe, work), hardware.device)
        fits = hardware.margin * found.memory_bytes <= hardware.device.memory_bytes
        tried = Plan(base, hardware, recipe, found, fits)
        if fits:
            return tried
        if least is None or found.memory_bytes < least.estimate.memory_bytes:
            least = tried
    assert least is not None
    return least


def length_of(base: Base, work: Workload) -> int:
    """The shortest of the usual lengths that holds 95 of 100 rows whole, as far as the model knows positions."""
    wanted = next((one for one in LENGTHS if one >= work.covering), LENGTHS[-1])
    return min(wanted, base.sizes.max_position_embeddings)


def remedy(tried: Plan, work: Workload) -> Said:
    """The cheapest change that makes a plan fit that does not: shorter rows, else more memory."""
    length = tried.recipe.train.max_length // 2
    while length >= SHORTEST:
        if plan(tried.base, work, tried.hardware, length).fits:
            return Said(
                en=f"max_length {length} makes it fit and cuts longer rows",
                zh=f"max_length 改为 {length} 即可放下，但会截断更长的数据",
            )
        length //= 2
    gb = tried.needed_bytes / GIB
    if not tried.hardware.cards:
        return Said(en=f"{gb:.0f} GB of free memory make it fit", zh=f"空闲内存达到 {gb:.0f} GB 即可放下")
    card = next((one for one in CARDS_GB if one >= gb), None)
    if card is None:
        return Said(
            en=f"it needs {gb:.0f} GB on each card: take more cards", zh=f"每张卡需 {gb:.0f} GB：请增加显卡数量"
        )
    each = Said(en=" each", zh="每张 ") if tried.hardware.cards > 1 else Said(en="", zh="")
    return Said(en=f"{card} GB{each.en} of card memory make it fit", zh=f"显存{each.zh}达到 {card} GB 即可放下")


def why_not(tried: Plan) -> Said:
    """What it needs at the least."""
    needs, there = size(tried.needed_bytes), size(tried.hardware.device.memory_bytes)
    name = tried.recipe.tune.name
    return Said(
        en=f"needs {needs} of {there} even with {name}, the margin of the estimate included",
        zh=f"即使用 {name} 也需 {needs}（含估计余量），而可用 {there}",
    )


def _recipes(base: Base, work: Workload, hardware: Hardware, length: int) -> Iterator[Recipe]:
    """All settings that are tried, the cheapest first."""
    batch = max(8 if work.rows < FEW else 16, hardware.cards)
    while batch % max(1, hardware.cards):
        batch += 1
    texts = work.task == "domain" and work.labelled > 0.99
    train: dict[str, Any] = {"batch_size": batch, "max_length": length, "precision": _precision(base, hardware)}
    train["processes"] = max(1, hardware.cards)
    if texts:
        train |= {"stage": "pt", "epochs": TEXT_EPOCHS}
    elif work.rows < INCREMENT:
        train["epochs"] = FEW_EPOCHS
    each = batch // max(1, hardware.cards)
    parts = [part for part in range(1, each + 1) if each % part == 0]
    for tune in _tuners(work, hardware):
        for sharding in ["none", *(["fsdp2"] if hardware.cards > 1 and tune["name"] != "qlora" else [])]:
            for checkpointing in (False, True):
                for part in parts:
                    own = {"sharding": sharding, "gradient_checkpointing": checkpointing, "accumulation": part}
                    protect = "auto" if sharding == "none" else ({"name": "replay"},)
                    yield Recipe.model_validate({"tune": tune, "train": train | own, "protect": protect})


def _tuners(work: Workload, hardware: Hardware) -> list[dict[str, Any]]:
    """From the freest to the smallest; with a handful of rows less freedom is better."""
    lora, qlora = {"name": "lora"}, {"name": "qlora"}
    if work.rows < FEW and hardware.cards:
        return [qlora]
    return [*([{"name": "full"}] if work.rows >= MANY else []), lora, qlora]


def _precision(base: Base, hardware: Hardware) -> str:
    if hardware.cards:
        return "bf16" if hardware.bf16 else "fp16"
    return "bf16" if hardware.bf16 and base.sizes.parameters >= BF16_PARAMETERS else "fp32"


def _rows(recipe: Recipe, work: Workload) -> Rows:
    train = recipe.train
    passes = train.epochs if isinstance(train.epochs, float) else usual_epochs(work.rows, train.batch_size)
    return Rows(
        steps=plan_steps(work.rows, 0.0, train.batch_size, passes, train.min_steps),
        longest=work.longest,
        mean=work.mean,
        labelled=work.labelled,
        distinct=work.rows,
    )


def tuner_told(tune: Tune) -> str:
    """A tuner in a word or two."""
    return {"lora": "LoRA", "qlora": "QLoRA 4 bit", "full": "full"}.get(tune.name, tune.name)
