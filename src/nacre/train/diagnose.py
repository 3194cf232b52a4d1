"""A look at the curves of a finished run: what stands out, in figures, and what to change, by the setting's name.

The limits are rules of thumb from practice (a validation gap of 0.05, gradient norms between 0.1 and 1), said with the
figure that was measured, so that everybody can judge them. Nothing is decided by them.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nacre.records import Recipe
from nacre.records.tune import Full
from nacre.train.estimate import size
from nacre.train.memory import Change

GAP = 0.05  # nats per token between held-out and trained rows
RISE = 1.05  # held-out loss at the end, in multiples of its lowest
NORMS = (0.1, 1.0)
SWING, UPWARD = 0.25, 0.4  # mean change from one logged loss to the next; share of the changes that go up
LEARNED = 0.8  # held-out loss at the end, in multiples of the first: above it little was learned
ENOUGH_ROWS = 1_000
FULL = 0.9  # of the device's memory


@dataclass(frozen=True)
class Seen:
    """What a finished run shows: its log, how it was trained, and how full the memory was.

    Attributes:
        changes: given how many bytes too much were in use, what would save some, cheapest first; asked only where
            memory is nearly full. None where no estimate knows.
    """

    history: Sequence[Mapping[str, Any]]
    recipe: Recipe
    rows: int
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    changes: Callable[[float], Sequence[Change]] | None = None


def findings(seen: Seen) -> list[str]:
    """At most a handful of sentences, the gravest first; none where nothing stands out."""
    checks = (_swings, _rises, _gap, _norms, _not_learned, _memory)
    return [found for check in checks if (found := check(seen))]


def _curve(seen: Seen, name: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), float(entry[name])) for entry in seen.history if name in entry]


def _swings(seen: Seen) -> str | None:
    """The loss goes up and down, once the warm-up is over."""
    losses = [loss for _, loss in _curve(seen, "loss")]
    losses = losses[len(losses) // 4 :]
    if len(losses) < 6 or not statistics.mean(losses):
        return None
    changes = [later - before for before, later in pairwise(losses)]
    swing = statistics.mean(map(abs, changes)) / statistics.mean(losses)
    upward = sum(change > 0 for change in changes) / len(changes)
    if swing < SWING or upward < UPWARD or losses[-1] < 0.1:
        return None
    rate = seen.recipe.train.learning_rate
    return (
        f"the loss swings: from one logged value to the next it changes by {swing:.0%} and goes up {upward:.0%} of the "
        f"time: lower train.learning_rate ({rate} now), or make train.batch_size larger"
    )


def _rises(seen: Seen) -> str | None:
    """Held-out loss has its minimum well before the end."""
    curve = _curve(seen, "eval_loss")
    if len(curve) < 2:
        return None
    step, lowest = min(curve, key=lambda point: point[1])
    last = curve[-1][1]
    if last < RISE * lowest or last - lowest < 0.01:
        return None
    dropout = ", tune.dropout 0.1 to 0.3" if "dropout" in type(seen.recipe.tune).model_fields else ""
    return (
        f"held-out loss rose from {lowest:.3f} at step {step} to {last:.3f}: the rows are being learned by heart: "
        f"train.early_stopping{dropout}, fewer train.epochs, or more rows"
    )


def _gap(seen: Seen) -> str | None:
    """The last held-out loss is well above the last training loss."""
    held_out, trained = _curve(seen, "eval_loss"), _curve(seen, "loss")
    if not held_out or not trained or held_out[-1][1] - trained[-1][1] <= GAP:
        return None
    return (
        f"held-out loss {held_out[-1][1]:.3f} is {held_out[-1][1] - trained[-1][1]:.3f} above the training loss "
        f"({GAP} is the usual limit): more or more varied rows, train.early_stopping, fewer train.epochs"
    )


def _norms(seen: Seen) -> str | None:
    """Gradients that are cut off most of the time, or hardly there."""
    norms = [norm for _, norm in _curve(seen, "grad_norm")]
    if len(norms) < 3:
        return None
    low, high = NORMS
    median = statistics.median(norms)
    limit = seen.recipe.train.max_grad_norm
    if median > high:
        return (
            f"the gradient's norm is {median:.2f} in the middle (0.1 to 1.0 is healthy) and is cut to {limit:g}: "
            "a lower train.learning_rate or a longer train.warmup"
        )
    if median < low and (loss := _curve(seen, "loss")) and loss[-1][1] > 0.5:
        return (
            f"the gradient's norm is {median:.3f} in the middle (0.1 to 1.0 is healthy) while the loss is still "
            f"{loss[-1][1]:.2f}: a higher train.learning_rate, or train more of the model"
        )
    return None


def _not_learned(seen: Seen) -> str | None:
    """The loss hardly fell."""
    curve = _curve(seen, "eval_loss")
    curve = curve if len(curve) > 1 else _curve(seen, "loss")
    if len(curve) < 2 or curve[-1][1] < LEARNED * curve[0][1] or curve[-1][1] < 0.5:
        return None
    advice = [f"a higher train.learning_rate ({seen.recipe.train.learning_rate} now)", "more train.epochs"]
    if seen.rows < ENOUGH_ROWS:
        advice.insert(0, f"more rows ({seen.rows} now, about {ENOUGH_ROWS:,} are advised)")
    if not isinstance(seen.recipe.tune, Full):
        advice.append("train more of the model (a larger tune.rank, more layers, or tune: full)")
    return f"the new rows were hardly learned: loss {curve[0][1]:.2f} at first, {curve[-1][1]:.2f} at the end: " + (
        ", ".join(advice)
    )


def _memory(seen: Seen) -> str | None:
    """The device is nearly full: the next longer row may end the run."""
    used, total = seen.memory_used_bytes, seen.memory_total_bytes
    if not total or used < FULL * total:
        return None
    less = used - FULL * total
    said = f"memory is nearly full: {size(used)} of {size(total)}; with {size(less)} less a tenth would be free"
    saving = _saving(seen, less)
    if saving is None:
        return f"{said}: {_without_figures(seen.recipe)}"
    if not saving:
        return f"{said}; no change of settings saves memory: a smaller model, or a larger machine"
    return f"{said}. By estimate, the cheapest first: {', '.join(saving)}"


def _saving(seen: Seen, less: float) -> list[str] | None:
    """What would save memory, and how much; None where it cannot be estimated: no finished run is lost over that."""
    if seen.changes is None:
        return None
    try:
        return [str(one) if one.words.startswith("tune ") else f"train.{one}" for one in seen.changes(less)]
    except ValueError:  # a tuner that was not asked for may not fit the model
        return None


def _without_figures(recipe: Recipe) -> str:
    """What saves memory, where nobody can say how much."""
    train = recipe.train
    advice = [f"train.accumulation {2 * train.accumulation} (half the micro-batch)"]
    if not train.gradient_checkpointing:
        advice.append("train.gradient_checkpointing")
    advice.append(f"train.max_length {train.max_length // 2}")
    if train.precision == "fp32":
        advice.append("train.precision bf16")
    if isinstance(recipe.tune, Full):
        advice.append("tune: lora")
    return ", ".join(advice)
