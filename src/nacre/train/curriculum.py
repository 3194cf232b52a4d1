"""Which new rows are learned and in which order, as `train` asks: its templates, typos, curriculum and mix.

Easy to hard (Bengio et al. 2009, "Curriculum Learning") holds for the first pass; later passes are shuffled.
Cost: none; `loss` asks the starting model for the loss of every new row before training, one forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from nacre.base.errors import InputError, unknown
from nacre.data.compose.augment import Augment, augment
from nacre.data.compose.pieces import Piece
from nacre.data.curriculum import COLUMN, by_dataset, column, easy_first, lengths
from nacre.data.typos import with_typos
from nacre.records import Example, Train
from nacre.train.protect.base import TrainingRows

Losses = Callable[[Sequence[Example]], list[float]]


def arrange(rows: TrainingRows, train: Train, losses: Losses) -> tuple[TrainingRows, list[str]]:
    """The new rows, with those asked in other words and the twins with typos, in the order asked for; and sentences.

    Args:
        rows: what is trained on.
        train: its templates, typos, curriculum, mix and seed.
        losses: gives each row's loss in nats per token under the model that training starts from.

    Raises:
        InputError: `mix` and the datasets of the rows do not match; no row has the column that is named.
    """
    wanted, notes = train.curriculum, list[str]()
    if train.templates:
        pieces, said = augment([Piece(row) for row in rows.new], Augment(templates=train.templates), train.seed)
        rows, notes = replace(rows, new=[piece.example for piece in pieces]), said
    if train.typos:
        new, note = with_typos(rows.new, letters=train.typos, share=train.typo_rows, seed=train.seed)
        rows, notes = replace(rows, new=new), [*notes, note]
    if wanted == "none" and not train.mix:
        return rows, notes
    datasets = by_dataset(rows.new)
    if train.mix:
        notes.append(_check_mix(train.mix, datasets))
    if wanted == "parts":
        in_turn = ", then ".join(f"{name} ({len(own)} rows)" for name, own in datasets.items())
        notes.append(f"curriculum: {in_turn}" if len(datasets) > 1 else "curriculum: one dataset alone, so one part")
    elif wanted != "none":
        difficulty, note = _difficulty(rows.new, wanted, losses)
        notes.append(note)
        ordered = easy_first(rows.new, difficulty, train.seed)
        datasets = by_dataset(ordered) if train.mix else {"": ordered}  # without a ratio all rows are one heap
    names = list(train.mix) or list(datasets)
    arranged = replace(
        rows,
        new=[row for name in names for row in datasets[name]],
        datasets=tuple(len(datasets[name]) for name in names),
        ratio=tuple(train.mix.values()),
        in_turn=wanted == "parts" and len(datasets) > 1,
        easy_first=wanted not in ("none", "parts"),
    )
    return arranged, notes


def _check_mix(mix: dict[str, float], datasets: dict[str, list[Example]]) -> str:
    """The ratio in words, if it names each dataset of the rows and no other."""
    for name in mix:
        if name not in datasets:
            raise unknown("dataset", name, datasets, where="train.mix")
    left = [name for name in datasets if name not in mix]
    if left:
        fix = f"give {', '.join(left)} a ratio too, or leave it out of the increment"
        raise InputError(f"no ratio is given for {', '.join(left)}", where="train.mix", fix=fix)
    total = sum(mix.values())
    shown = ", ".join(f"{name} {ratio / total:.1%} ({len(datasets[name])} rows)" for name, ratio in mix.items())
    return f"mix: of the new rows of every batch {shown}"


def _difficulty(rows: Sequence[Example], wanted: str, losses: Losses) -> tuple[Sequence[float | str], str]:
    """How hard each row is, and a sentence about the order."""
    if wanted == "length":
        return lengths(rows), "curriculum: short rows first in the first pass, later passes are shuffled"
    if wanted == "loss":
        note = "curriculum: rows that the starting model finds likely first in the first pass, later ones are shuffled"
        return losses(rows), note
    name = wanted.removeprefix(COLUMN)
    values, missing = column(rows, name)
    last = f"; {missing} rows without it come last" if missing else ""
    order = "text" if values and isinstance(values[0], str) else "numbers"
    return values, f"curriculum: by column '{name}' (as {order}) in the first pass, later passes are shuffled{last}"
