"""A look at the curves of a finished run: what stands out, in figures, and what to change, by the setting's name.

The limits are rules of thumb from practice (a validation gap of 0.05, gradient norms between 0.1 and 1), said with the
figure that was measured, so that everybody can judge them. Nothing is decided by them. No two findings of a run advise
opposite things: where one is the cause of the other, the other holds its tongue.
"""

import re
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
RISE = 1.05  # loss at the end, in multiples of the first, and held-out loss in multiples of its lowest
NORMS = (0.1, 1.0)
SWING, UPWARD = 0.25, 0.4  # mean change from one logged loss to the next; share of the changes that go up
FEW = 4  # logged losses: of fewer a rise says nothing
LEARNED = 0.8  # held-out loss at the end, in multiples of the first: above it little was learned
ENOUGH_ROWS = 1_000
FULL = 0.9  # of the device's memory
DROPOUT = 0.1  # from which on no more is advised

NAMES: Mapping[str, str] = {  # what findings name, in the arguments of `nacre train`
    "train.learning_rate": "learning_rate",
    "train.warmup": "warmup_ratio",
    "train.epochs": "num_train_epochs",
    "train.max_steps": "max_steps",
    "train.early_stopping": "early_stopping_steps",
    "train.batch_size": "per_device_train_batch_size",
    "train.accumulation": "a smaller per_device_train_batch_size with gradient_accumulation_steps",
    "train.gradient_checkpointing": "gradient_checkpointing",
    "train.max_length": "cutoff_len",
    "train.precision bf16": "bf16",
    "tune.rank": "lora_rank",
    "tune.dropout": "lora_dropout",
    "tune.trainable_layers": "trainable_layers",  # beside which freeze_trainable_layers has no effect
    "tune.frozen_layers": "freeze_layers",
    "tune: full": "finetuning_type: full",
    "tune: lora": "finetuning_type: lora",
    "tune lora": "finetuning_type lora",
    "tune qlora, with 4 bits,": "quantization_bit 4",
}


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
    checks = (_diverges, _swings, _rises, _gap, _norms, _not_learned, _memory)
    return [found for check in checks if (found := check(seen))]


def in_arguments(finding: str, tuner: str) -> str:
    """A finding in the words of `nacre train`, which knows no recipe.

    Args:
        finding: one of `findings`.
        tuner: the name of the recipe's tuner.
    """
    names = {**NAMES, "tune.dropout": "module_dropout"} if tuner == "oft" else NAMES
    return re.sub("|".join(re.escape(name) for name in names), lambda found: names[found[0]], finding)


def _curve(seen: Seen, name: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), float(entry[name])) for entry in seen.history if name in entry]


def _diverges(seen: Seen) -> str | None:
    """The loss is higher at the end than at first, and not because it swings."""
    curve, rate = _curve(seen, "loss"), seen.recipe.train.learning_rate
    if not _rose(seen) or _swings(seen) is not None:
        return None
    if len(curve) < FEW or seen.recipe.train.curriculum != "none":
        return None  # few batches differ by themselves, and harder ones come last where that is asked for
    return (
        f"the loss rose from {curve[0][1]:.2f} to {curve[-1][1]:.2f}: lower train.learning_rate ({rate} now), or a "
        "longer train.warmup"
    )


def _rose(seen: Seen) -> bool:
    """Whether the last quarter of the logged losses lies above the first, and held-out rows do not say otherwise."""
    losses, held_out = [loss for _, loss in _curve(seen, "loss")], _curve(seen, "eval_loss")
    if len(losses) < 2 or losses[-1] < 0.5 or (len(held_out) > 1 and held_out[-1][1] < held_out[0][1]):
        return False
    quarter = max(1, len(losses) // 4)
    return statistics.mean(losses[-quarter:]) > RISE * statistics.mean(losses[:quarter])


def _swings(seen: Seen) -> str | None:
    """The loss goes up and down, once the warm-up is over."""
    losses = [loss for _, loss in _curve(seen, "loss")]
    losses = losses[len(losses) // 4 :]
    if len(losses) < 6 or not statistics.mean(losses):
        return None
    changes = [later - before for before, later in pairwise(losses)]
    swing = statistics.mean(map(abs, changes)) / statistics.mean(losses)
    upward = sum(change > 0 for change in changes) / len(changes)
    if swing < SWING or not UPWARD <= upward < 1 or losses[-1] < 0.1:
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
    if last < RISE * lowest or last - lowest < 0.01 or _diverges(seen) is not None:
        return None
    dropout = ["tune.dropout 0.1 to 0.3"] if getattr(seen.recipe.tune, "dropout", DROPOUT) < DROPOUT else []
    advice = ", ".join([*_stop(seen), *dropout, f"fewer {_length(seen)}"])
    return (
        f"held-out loss rose from {lowest:.3f} at step {step} to {last:.3f}: the rows are being learned by heart: "
        f"{advice}, or more rows"
    )


def _stop(seen: Seen) -> list[str]:
    """Early stopping, unless it is on."""
    return [] if seen.recipe.train.early_stopping else ["train.early_stopping"]


def _length(seen: Seen) -> str:
    """The setting that decides how long the run is."""
    train = seen.recipe.train
    if train.max_steps is None:
        return "train.epochs"
    passes = train.epochs if isinstance(train.epochs, float) else 1.0
    exact = train.min_steps == train.max_steps
    return "train.max_steps" if exact or passes * seen.rows / train.batch_size > train.max_steps else "train.epochs"


def _gap(seen: Seen) -> str | None:
    """The last held-out loss is well above the last training loss, and the run has made it so."""
    held_out, trained = _curve(seen, "eval_loss"), _curve(seen, "loss")
    if not held_out or not trained or held_out[-1][1] - trained[-1][1] <= GAP:
        return None
    if trained[-1][1] >= LEARNED * trained[0][1] and _rises(seen) is None:
        return None  # the rows differ, or one batch from another
    advice = ", ".join(["more or more varied rows", *_stop(seen), f"fewer {_length(seen)}"])
    return (
        f"held-out loss {held_out[-1][1]:.3f} is {held_out[-1][1] - trained[-1][1]:.3f} above the training loss "
        f"({GAP} is the usual limit): {advice}"
    )


def _norms(seen: Seen) -> str | None:
    """Gradients that are cut off most of the time, or hardly there."""
    norms = [norm for _, norm in _curve(seen, "grad_norm")]
    if len(norms) < 3:
        return None
    low, high = NORMS
    median = statistics.median(norms)
    advised = _not_learned(seen) is not None or _diverges(seen) is not None  # which say what to do about the rate
    if median > high:
        limit = seen.recipe.train.max_grad_norm
        said = f"the gradient's norm is {median:.2f} in the middle (0.1 to 1.0 is healthy) and is cut to {limit:g}"
        return said if advised else f"{said}: a lower train.learning_rate or a longer train.warmup"
    if median < low and (loss := _curve(seen, "loss")) and loss[-1][1] > 0.5:
        said = (
            f"the gradient's norm is {median:.3f} in the middle (0.1 to 1.0 is healthy) while the loss is still "
            f"{loss[-1][1]:.2f}"
        )
        advised = advised or _swings(seen) is not None
        return said if advised else f"{said}: a higher train.learning_rate, or train more of the model"
    return None


def _not_learned(seen: Seen) -> str | None:
    """The loss hardly fell, and not because the rows were learned by heart."""
    curve = _curve(seen, "eval_loss")
    curve = curve if len(curve) > 1 else _curve(seen, "loss")
    if len(curve) < 2 or curve[-1][1] < LEARNED * curve[0][1] or curve[-1][1] < 0.5:
        return None
    if _rises(seen) is not None or _gap(seen) is not None or _rose(seen):
        return None
    advice = [] if _swings(seen) else [f"a higher train.learning_rate ({seen.recipe.train.learning_rate} now)"]
    advice.append(f"more {_length(seen)}")
    if seen.rows < ENOUGH_ROWS:
        advice.insert(0, f"more rows ({seen.rows} now, about {ENOUGH_ROWS:,} are advised)")
    tune = seen.recipe.tune
    if not isinstance(tune, Full):
        advice.append(f"train more of the model ({_larger(tune)}tune: full)")
    return f"the new rows were hardly learned: loss {curve[0][1]:.2f} at first, {curve[-1][1]:.2f} at the end: " + (
        ", ".join(advice)
    )


def _larger(tune: Any) -> str:
    """What the tuner itself has to train more with; of a count and its opposite the one that was given."""
    if getattr(tune, "frozen_layers", None) is not None:
        return "fewer tune.frozen_layers, or " if tune.frozen_layers else ""
    own = {"rank": "a larger tune.rank, or ", "trainable_layers": "more tune.trainable_layers, or "}
    return "".join(words for name, words in own.items() if hasattr(tune, name))


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
