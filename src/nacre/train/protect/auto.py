"""What `protect: auto` stands for: a ladder of lists, each holding more firmly and costing more than the one before.

It starts with what is enough on most increments. When the gate refuses the result, the next rung is tried. Which
ladder it is depends on how much of the old data may be kept. The figures behind each choice are in docs/benchmarks.md.
"""

from dataclasses import dataclass
from typing import Any

from nacre.records import Recipe

LITTLE = 0.1  # of the old rows: below it a fixed share of every batch learns the few rows by heart


@dataclass(frozen=True)
class Rung:
    """Protections by name and option, and a sentence that says why these."""

    protect: tuple[dict[str, Any], ...]
    why: str


def _replay(share: float, **options: Any) -> dict[str, Any]:
    return {"name": "replay", "share": share, **options}


# one generic text a step holds general ability at a fourth of the cost of four; replayed rows bear more weight
HELD = {"name": "distill", "on": ["generic", "replayed"], "weight": 0.1, "replayed_weight": 0.3, "rows": 1}
FIRST = Rung(({"name": "distill", "rows": 1},), "nothing was learned before: only general ability is held")
ALL = (
    Rung(
        (_replay(0.25), HELD),
        "a quarter of every batch is old rows, and the previous version's answers on them and on generic text are held",
    ),
    Rung(
        (_replay(0.33, order="forgotten-first"), HELD),
        "a third of every batch is old rows, more of them from the tasks that were forgotten",
    ),
    Rung(
        (
            _replay(0.33, order="forgotten-first"),
            HELD,
            {"name": "average"},
        ),
        "the same, and the result is averaged with the version before as far as that helps old and new tasks together",
    ),
)


SOME = (
    Rung(
        (
            _replay(0.1, per_class=0),
            HELD,
            {"name": "ewc", "strength": "auto"},
        ),
        "few old rows may be kept: they are replayed in a tenth of every batch, and weights that mattered are held",
    ),
)
NONE = (
    Rung(
        ({"name": "ewc", "strength": "auto"}, {"name": "distill", "rows": 1}),
        "no old rows may be kept: weights that mattered are held, which keeps about half of what old rows would keep",
    ),
)
NONE_LORA = (
    Rung(
        ({"name": "separate"},),
        "no old rows may be kept: this increment gets an adapter of its own, and a router picks one for each prompt",
    ),
)


REWARD_FIRST = Rung((), "a reward model says no tokens, so there is nothing to hold before its first increment")
REWARD = Rung((_replay(0.25),), "a reward model: a quarter of every batch is old pairs; it says no tokens to hold")


def ladder(recipe: Recipe, *, past: bool, share: float) -> tuple[Rung, ...]:
    """The rungs of `auto` for what may be kept of the old data; empty where the recipe names its protections itself.

    Args:
        recipe: how the increment is trained.
        past: whether anything was learned before.
        share: of the old rows, that may be kept: 1 is all, 0 none.
    """
    if recipe.protect != "auto":
        return ()
    if recipe.train.stage == "rm":
        return (REWARD,) if past and share else (REWARD_FIRST,)
    if share == 0 and recipe.tune.name == "lora":
        return NONE_LORA  # from the first increment on: the router learns each task's prompts while they are there
    if not past:
        return (FIRST,)
    if share == 0:
        return NONE
    return ALL if share > LITTLE else SOME
