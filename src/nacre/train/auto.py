"""Values that `auto` stands for, decided from the model's size and the number of rows, and said."""

import math

from nacre.records import Train
from nacre.records.tune import Lora, QLora, Tune

RATES = {  # of each tuner: at 0.7 M parameters, tried on toys, and at 7 B, as is usual there
    "full": (2e-3, 1e-5),
    "freeze": (2e-3, 1e-5),
    "lora": (6e-3, 1e-4),
    "qlora": (6e-3, 1e-4),
    "adapter": (6e-3, 1e-4),
    "adalora": (2e-2, 5e-4),
    "oft": (1e-2, 4e-4),
    "ia3": (1e-1, 3e-3),
    "prompt": (3e-2, 1e-2),
    "p-tuning": (6e-3, 1e-3),
    "prefix": (1e-1, 1e-2),
}


def learning_rate(tune: Tune, parameters: int) -> float:
    """A rate for a model of this size.

    A line through two points in log-log: 2e-3 where 0.7 M parameters all train and 1e-5 at 7 B, as is usual
    there; for LoRA of rank 8 6e-3 and 1e-4. The fewer numbers a tuner trains, the further each must go: virtual tokens
    and factors take rates ten and more times higher. LoRA+ halves the rate, because half of its matrices learn faster.
    Wider or stronger scaled adapters move the weights further at each step, so small models take them slower (`_calm`);
    at 7 B one rate is usual for all.
    Two significant digits, so that it can be read and repeated.
    """
    small, large = RATES[tune.name]
    if getattr(tune, "lr_ratio", None):
        small, large = small / 2, large / 2
    if isinstance(tune, Lora | QLora):
        small = max(small * _calm(tune), large)
    slope = math.log(large / small) / math.log(7e9 / 7e5)
    rate = small * (max(parameters, 1) / 7e5) ** slope
    return float(f"{min(rate, small):.1e}")


def _calm(tune: Lora | QLora) -> float:
    """What LoRA's rate is multiplied by: 1 at rank 8 and twice the rank as alpha, less the wider and stronger it is.

    Adam moves every number of the matrices by about the rate, so their product by scale times the root of the rank.
    """
    alpha = tune.alpha or 2 * tune.rank
    scale = alpha / (math.sqrt(tune.rank) if tune.rslora else tune.rank)
    return min(1.0, 2 / scale * math.sqrt(8 / tune.rank))


def epochs(rows: int, batch_size: int) -> float:
    """Passes over the new rows: as many as make about 100 steps, at least 3 and at most 10."""
    steps_per_epoch = max(rows / batch_size, 1e-9)
    return float(min(10, max(3, math.ceil(100 / steps_per_epoch))))


def settle(train: Train, tune: Tune, parameters: int, rows: int) -> tuple[Train, list[str]]:
    """Replace every `auto` by its value; returns the settings and one sentence for each decision."""
    notes = []
    if train.learning_rate == "auto":
        rate = learning_rate(tune, parameters)
        train = train.model_copy(update={"learning_rate": rate})
        notes.append(f"learning rate {rate:g}: chosen for {parameters:,} parameters and {tune.name}")
    if train.epochs == "auto":
        passes = epochs(rows, train.batch_size)
        train = train.model_copy(update={"epochs": passes})
        most = train.max_steps
        cut = f", but cut by max_steps {most}" if most and passes * rows / train.batch_size > most else ""
        notes.append(f"epochs {passes:g}: chosen for {rows} rows in batches of {train.batch_size}{cut}")
    return train, notes
