"""From examples to the rows the trainer reads, in the order the mixture asks for."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from nacre.base.errors import InputError
from nacre.data.schedule import Stream, plan_steps, schedule
from nacre.model.chat import IGNORED, Encoded, encode, encode_text
from nacre.records import Example, Train
from nacre.train.protect.base import TrainingRows


@dataclass(frozen=True)
class Prepared:
    """Rows in training order, the number of optimizer steps they make, and what was cut on the way.

    `rows_hash` is the identity of rows and order, token for token.
    """

    dataset: Dataset
    steps: int
    notes: list[str]
    rows_hash: str


def prepare(rows: TrainingRows, tokenizer: Any, train: Train) -> Prepared:
    """Tokenise every row once and lay out all steps of the run: every batch holds its true mixture.

    The order is fixed by the seed, so a run that is resumed sees the rows an unbroken one would see.

    Raises:
        InputError: nothing is left to train on.
    """
    notes: list[str] = []
    new = encode_rows(rows.new, tokenizer, train.max_length, notes)
    if not new:
        raise InputError(
            "no row has a token to train on", where="the increment", fix="look at the data, or raise max_length"
        )
    groups = [[encode_rows(group, tokenizer, train.max_length, notes) for group in mix.groups] for mix in rows.mixed_in]
    streams = [
        Stream(name=mix.name, groups=tuple(len(group) for group in encoded), share=mix.share)
        for mix, encoded in zip(rows.mixed_in, groups, strict=True)
    ]
    batch = train.batch_size
    assert isinstance(train.epochs, float)  # settled before
    share = sum(stream.share for stream in streams if any(stream.groups))
    steps = plan_steps(len(new), share, batch, train.epochs, train.min_steps)
    steps = min(steps, train.max_steps or steps)
    order = schedule(len(new), streams, batch_size=batch, steps=steps, seed=train.seed)
    sources = [new, *([row for group in encoded for row in group] for encoded in groups)]
    starts = [sum(len(source) for source in sources[:place]) for place in range(len(sources))]
    table = Dataset.from_dict(
        {
            "input_ids": [row.input_ids for source in sources for row in source],
            "labels": [row.labels for source in sources for row in source],
            "source": [place for place, source in enumerate(sources) for _ in source],
        }
    )
    places = [starts[source] + row for source, row in order]
    return Prepared(table.select(places), -(-len(order) // batch), notes, _hash(sources, places))


def _hash(sources: Sequence[Sequence[Encoded]], places: Sequence[int]) -> str:
    digest = hashlib.sha256(array("q", places).tobytes())
    for source in sources:
        for row in source:
            digest.update(array("q", (len(row.input_ids), *row.input_ids, *row.labels)).tobytes())
    return digest.hexdigest()


def encode_rows(examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]) -> list[Encoded]:
    """Supervised rows one by one, plain text in blocks. What was shortened, left out or ignored goes into `notes`.

    Raises:
        InputError: the chat template refuses a row; names its file and line.
    """
    texts = [row.prompt[0].content for row in examples if row.kind == "text"]
    supervised = [row for row in examples if row.kind != "text"]
    encoded = [_encode(row, tokenizer, max_length) for row in supervised]
    usable = [row for row in encoded if any(label != IGNORED for label in row.labels)]
    shortened = sum(row.cut > 0 for row in usable)
    if shortened:
        notes.append(f"{shortened} of {len(usable)} rows were longer than {max_length} tokens and were shortened")
    if len(usable) < len(encoded):
        notes.append(f"{len(encoded) - len(usable)} rows were left out: no token of an answer in them")
    with_tools = sum(bool(row.tools) for row in supervised)
    if with_tools and "tools" not in str(tokenizer.chat_template):
        notes.append(f"{with_tools} rows declare tools, which the model's chat template has no place for")
    return usable + encode_text(texts, tokenizer, max_length)


def _encode(row: Example, tokenizer: Any, max_length: int) -> Encoded:
    try:
        return encode(row, tokenizer, max_length)
    except InputError as error:
        where = f"{row.origin.file}, line {row.origin.line}: {error.where}" if row.origin.file else error.where
        raise InputError(error.what, where=where, fix=error.fix) from None
