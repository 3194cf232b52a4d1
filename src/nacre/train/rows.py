"""From examples to the rows the trainer reads, in the order the mixture asks for."""

import hashlib
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from datasets import Dataset

from nacre.base.errors import InputError
from nacre.data.schedule import MAX_REPEATS, Fresh, Stream, apportion, plan_steps, schedule, schedule_in_turn
from nacre.model.chat import IGNORED, Encoded, encode, encode_text
from nacre.records import Example, Train
from nacre.train.course import Part
from nacre.train.protect.base import TrainingRows

Encode = Callable[[Sequence[Example], Any, int, list[str]], Sequence[Encoded]]
"""(examples, tokenizer, max_length, notes) to rows, all of one class, whose fields become the trainer's columns."""


@dataclass(frozen=True)
class Prepared:
    """Rows in training order, the number of optimizer steps they make, and what was cut on the way.

    `table` has every row once, `places` says which of them stands where; `rows_hash` is the identity of rows and
    order, token for token; `parts` are the steps of each dataset, where they are learned in turn.
    """

    table: Dataset
    places: Sequence[int]
    steps: int
    notes: list[str]
    rows_hash: str
    parts: tuple[Part, ...] = ()

    @property
    def dataset(self) -> Dataset:
        """The rows in training order."""
        return self.table.select(self.places)

    @property
    def passes(self) -> float:
        """How often the new rows come. Whole batches are made, so this may be a little more than was asked for."""
        new = self.table["source"][:].count(0)
        return sum(place < new for place in self.places) / max(new, 1)


def prepare(rows: TrainingRows, tokenizer: Any, train: Train, encode: Encode | None = None) -> Prepared:
    """Tokenise every row once and lay out all steps of the run: every batch holds its true mixture.

    The order is fixed by the seed, so a run that is resumed sees the rows an unbroken one would see.

    Args:
        rows: what is trained on.
        tokenizer: the model's.
        train: batch, length, epochs and seed.
        encode: how a stage reads its rows; default: as supervised ones.

    Raises:
        InputError: nothing is left to train on.
    """
    encode = encode or encode_rows
    notes: list[str] = []
    datasets = [encode(own, tokenizer, train.max_length, notes) for own in _datasets(rows)]
    new = [row for own in datasets for row in own]
    if not new:
        raise InputError(
            "no row has a token to train on", where="the increment", fix="look at the data, or raise max_length"
        )
    groups = [[encode(group, tokenizer, train.max_length, notes) for group in mix.groups] for mix in rows.mixed_in]
    streams = [
        Stream(mix.name, tuple(len(group) for group in encoded), mix.share, mix.weights)
        for mix, encoded in zip(rows.mixed_in, groups, strict=True)
    ]
    order, parts = _lay_out(rows, [len(own) for own in datasets], streams, train, notes)
    sources = [new, *([row for group in encoded for row in group] for encoded in groups)]
    starts = [sum(len(source) for source in sources[:place]) for place in range(len(sources))]
    source = [place for place, source in enumerate(sources) for _ in source]
    table = table_of([row for source in sources for row in source]).add_column("source", source)
    places = [starts[source] + row for source, row in order]
    return Prepared(table, places, -(-len(order) // train.batch_size), notes, _hash(sources, places), parts)


def _datasets(rows: TrainingRows) -> list[Sequence[Example]]:
    """The new rows of each dataset, where datasets are drawn apart."""
    ends = list(accumulate(rows.datasets or (len(rows.new),)))
    return [rows.new[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _lay_out(
    rows: TrainingRows, sizes: Sequence[int], streams: Sequence[Stream], train: Train, notes: list[str]
) -> tuple[list[tuple[int, int]], tuple[Part, ...]]:
    """Which row stands in which slot of the run; and the parts of it, where datasets are learned in turn."""
    assert isinstance(train.epochs, float)  # settled before
    batch, epochs = train.batch_size, train.epochs
    share = sum(stream.share for stream in streams if any(stream.groups))
    if not rows.in_turn:
        asked = plan_steps(sum(sizes), share, batch, epochs, 1)
        steps = max(asked, train.min_steps)
        steps = min(steps, train.max_steps or steps)
        fresh, most = Fresh(tuple(sizes), rows.ratio, rows.easy_first), _most(train, steps, asked)
        return schedule(
            fresh, streams, batch_size=batch, steps=steps, seed=train.seed, max_repeats=most, notes=notes
        ), ()
    least = -(-train.min_steps // sum(size > 0 for size in sizes))
    passes = [plan_steps(size, share, batch, epochs, 1) if size else 0 for size in sizes]
    lengths = [max(asked, least) if asked else 0 for asked in passes]
    if train.max_steps:
        lengths = apportion(lengths, min(train.max_steps, sum(lengths)))
    repeats = [_most(train, length, asked) for length, asked in zip(lengths, passes, strict=True)]
    found = schedule_in_turn(
        sizes, streams, batch_size=batch, steps=lengths, seed=train.seed, max_repeats=repeats, notes=notes
    )
    ends = [-(-end // batch) for end in accumulate(len(part) for part in found)]
    steps_of = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    parts = tuple(Part(steps, int(_warmup(train, steps))) for steps in steps_of if steps)
    return [slot for part in found for slot in part], parts


def _most(train: Train, steps: int, asked: int) -> float:
    """How often a new row may come: as often as the passes or the exact number of steps that were asked for need."""
    return math.inf if steps <= asked or train.min_steps == train.max_steps else MAX_REPEATS


def _warmup(train: Train, steps: int) -> float:
    return train.warmup if train.warmup >= 1 else round(train.warmup * steps)


def table_of(rows: Sequence[Encoded]) -> Dataset:
    """The rows as a table: a column for each field of their class."""
    names = [field.name for field in fields(rows[0]) if field.name != "cut"]
    return Dataset.from_dict({name: [getattr(row, name) for row in rows] for name in names})


def _hash(sources: Sequence[Sequence[Encoded]], places: Sequence[int]) -> str:
    digest = hashlib.sha256(array("q", places).tobytes())
    for source in sources:
        for row in source:
            digest.update(array("q", (len(row.input_ids), *row.input_ids, *row.labels)).tobytes())
            beside = [getattr(row, field.name) for field in fields(row)[len(fields(Encoded)) :]]
            digest.update(repr(beside).encode() if beside else b"")
    return digest.hexdigest()


def encode_rows(examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]) -> list[Encoded]:
    """Supervised rows one by one, plain text in blocks. What was shortened, left out or ignored goes into `notes`.

    Of a preference pair the chosen answer is learned, of judged answers the good ones.

    Raises:
        InputError: the chat template refuses a row; names its file and line.
    """
    texts = [row.prompt[0].content for row in examples if row.kind == "text"]
    supervised = [row for row in examples if row.kind != "text" and row.desirable is not False]
    if pairs := sum(row.kind == "preference" for row in supervised):
        notes.append(f"{pairs} preference pairs are learned from as supervised rows: their chosen answers")
    if bad := sum(row.desirable is False for row in examples):
        notes.append(f"{bad} rows were left out: their answers were judged bad, and supervised rows are imitated")
    encoded = [encode_one(row, tokenizer, max_length) for row in supervised]
    usable = [row for row in encoded if any(label != IGNORED for label in row.labels[1:])]  # nothing predicts the first
    shortened = sum(row.cut > 0 for row in usable)
    if shortened:
        notes.append(f"{shortened} of {len(usable)} rows were longer than {max_length} tokens and were shortened")
    if len(usable) < len(encoded):
        notes.append(f"{len(encoded) - len(usable)} rows were left out: no token of an answer in them")
    with_tools = sum(bool(row.tools) for row in supervised)
    if with_tools and "tools" not in str(tokenizer.chat_template):
        notes.append(f"{with_tools} rows declare tools, which the model's chat template has no place for")
    return usable + encode_text(texts, tokenizer, max_length)


def encode_one(row: Example, tokenizer: Any, max_length: int) -> Encoded:
    """One row with an answer.

    Raises:
        InputError: the chat template refuses it; names its file and line.
    """
    try:
        return encode(row, tokenizer, max_length)
    except InputError as error:
        where = f"{row.origin.file}, line {row.origin.line}: {error.where}" if row.origin.file else error.where
        raise InputError(error.what, where=where, fix=error.fix) from None
