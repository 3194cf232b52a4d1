"""What `protect: auto` stands for: a ladder of lists, each holding more firmly and costing more than the one before.

It starts with what is enough on most increments. When the gate refuses the result, the next rung is tried. Which
ladder it is depends on how much of the old data may be kept. The figures behind the choices are in docs/benchmarks.md
and docs/log.md.
"""

from dataclasses import dataclass
from typing import Any

from nacre.records import Recipe
from nacre.records.tune import Full, Lora

LITTLE = 0.1  # of the old rows: below it a fixed share of every batch learns the few rows by heart


@dataclass(frozen=True)
class Rung:
    """Protections by name and option, a sentence that says why these, and the tuner where they need another one.

    Attributes:
        longer: passes over the new rows, times those that would be chosen for them.
    """

    protect: tuple[dict[str, Any], ...]
    why: str
    tune: Lora | None = None
    longer: float = 1.0


@dataclass(frozen=True)
class Past:
    """What there is to keep, and what to keep it with.

    Attributes:
        learned: earlier increments taught something.
        rows: some of their rows are there.
        share: of all old rows, that may be kept: 1 is all, 0 none.
        routed: training starts from several adapters behind a router.
    """

    learned: bool
    rows: bool
    share: float = 1.0
    routed: bool = False


def _replay(share: float, **options: Any) -> dict[str, Any]:
    return {"name": "replay", "share": share, **options}


# one generic text a step holds general ability at a fourth of the cost of four; replayed rows bear more weight; the
# teacher is asked once for each, and 256 of its likeliest tokens are kept
HELD = {
    "name": "distill",
    "on": ["generic", "replayed"],
    "weight": 0.1,
    "replayed_weight": 0.3,
    "rows": 1,
    "cache": 256,
}
GENERAL = {"name": "distill", "rows": 1, "cache": 256}
FIRST = Rung((GENERAL,), "nothing was learned before: only general ability is held")
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
    Rung(
        (
            _replay(0.2, per_class=0, order="forgotten-first"),
            HELD,
            {"name": "ewc", "strength": "auto"},
            {"name": "average"},
        ),
        "the few old rows in a fifth of every batch, and the result is averaged with the version before as far as that "
        "helps old and new tasks together",
    ),
)
APART = Rung(
    ({"name": "separate"},),
    "few or no old rows may be kept: each increment gets an adapter of its own, which no later one changes, and a "
    "router picks one for each prompt; the price: tasks do not help each other, answering reads each prompt twice, and "
    "an adapter takes two thirds more passes to learn its task",
    Lora(rank=64, lr_ratio=8.0),
    longer=5 / 3,
)
HELD_WEIGHTS = (
    Rung(
        ({"name": "ewc", "strength": "auto"}, GENERAL),
        "no old row is there: weights that mattered are held; on small tasks that kept a quarter of what old rows keep",
    ),
    Rung(
        ({"name": "ewc", "strength": "auto"}, GENERAL, {"name": "merge"}),
        "the same, and the result is merged with the version before in equal parts, which gives up new learning too",
    ),
)
REWARD_FIRST = Rung((), "a reward model says no tokens, so there is nothing to hold before its first increment")
ALIGN_FIRST = Rung((), "two encoders say nothing, so there is nothing to hold before their first increment")
ALIGN = Rung((_replay(0.25),), "two encoders: a quarter of every batch is old pairs; they say nothing to hold")
REWARD = Rung((_replay(0.25),), "a reward model: a quarter of every batch is old pairs; it says no tokens to hold")


def ladder(recipe: Recipe, past: Past) -> tuple[Rung, ...]:
    """The rungs of `auto` for what there is to keep; empty where the recipe names its protections itself."""
    if recipe.protect != "auto":
        return ()
    if recipe.train.stage == "rm":
        return (REWARD,) if past.rows else (REWARD_FIRST,)
    if recipe.train.stage == "clip":
        return (ALIGN,) if past.rows else (ALIGN_FIRST,)
    if past.routed or (past.share <= LITTLE and _can_be_apart(recipe, past)):
        return (APART,)  # from the first increment on: the router learns each task's prompts while they are there
    if not past.learned:
        return (FIRST,)
    if not past.rows:
        return HELD_WEIGHTS
    return ALL if past.share > LITTLE else SOME


def _can_be_apart(recipe: Recipe, past: Past) -> bool:
    """Whether a router can know the prompts of all earlier tasks, and the tuner is plain LoRA or can become it."""
    known = not past.learned or past.rows
    tune = recipe.tune
    plain = isinstance(tune, Lora) and not tune.dora and not tune.modules_to_save and tune.init == "default"
    return known and (plain or isinstance(tune, Full))
