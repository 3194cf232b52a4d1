"""Values that `auto` stands for, decided from the model's size and the number of rows, and said."""

import math

from nacre.records import Train
from nacre.records.tune import Lora, Tune


def learning_rate(tune: Tune, parameters: int) -> float:
    """A rate for a model of this size.

    A line through two points in log-log: 2e-3 where 0.7 M parameters all train and 1e-5 at 7 B, as is usual
    there; for LoRA 6e-3 and 1e-4. Two significant digits, so that it can be read and repeated.
    """
    small, large = (6e-3, 1e-4) if isinstance(tune, Lora) else (2e-3, 1e-5)
    slope = math.log(large / small) / math.log(7e9 / 7e5)
    rate = small * (max(parameters, 1) / 7e5) ** slope
    return float(f"{min(rate, small):.1e}")


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
        notes.append(f"epochs {passes:g}: chosen for {rows} rows in batches of {train.batch_size}")
    return train, notes
