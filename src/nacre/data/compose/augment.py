"""More rows out of those there are: the user's own paraphrase templates, and typing mistakes. Answers stay as they are.

A template is a text with places in braces: {question} is the row's last question, any other name a column beside it,
e.g. "Could you tell me: {question}". A row that lacks a column of a template is not written with it, and counted.
"""

import string
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from nacre.base.config import Settings
from nacre.base.hashing import sha256_text
from nacre.data.compose.likeness import plain
from nacre.data.compose.pieces import Piece, changed, question_of
from nacre.data.typos import with_typos
from nacre.records import Example
from nacre.records.template import QUESTION, slots, with_a_question


class Typos(Settings):
    """Settings of rows with typing mistakes."""

    share: float = Field(0.1, gt=0, le=1, description="of the rows that get a twin with mistakes")
    letters: float = Field(0.1, gt=0, le=1, description="of the letters of its questions that are mistyped")


class Augment(Settings):
    """Settings of augmentation."""

    templates: Annotated[tuple[str, ...], AfterValidator(with_a_question)] = Field(
        (), description="texts with {question}, and {column} where a row has it"
    )
    per_row: int = Field(1, ge=1, description="with so many of the templates each row is written")
    share: float = Field(1.0, gt=0, le=1, description="of the rows that are written with templates")
    typos: Typos | None = Field(None, description="twins with typing mistakes")


def augment(rows: Sequence[Piece], settings: Augment, seed: int) -> tuple[list[Piece], list[str]]:
    """The rows, and after them those that were made of them, each marked in the column `augmented`; and what was done.

    What comes of a row follows from its content and the seed alone. A new row that asks what another row asks is
    left out.
    """
    notes: list[str] = []
    added: list[Piece] = []
    if settings.templates:
        added, said = _templated(rows, settings, seed)
        notes += said
    if settings.typos is not None:
        examples = [row.example for row in rows]
        typed, said_typos = with_typos(examples, letters=settings.typos.letters, share=settings.typos.share, seed=seed)
        twins = typed[len(examples) :]
        added += [changed(Piece(twin), twin, augmented="typos") for twin in twins]
        notes.append(f"{said_typos}; the answers stay as they are")
    return [*rows, *added], notes


def _templated(rows: Sequence[Piece], settings: Augment, seed: int) -> tuple[list[Piece], list[str]]:
    known = {plain(question_of(row.example)) for row in rows}
    added: list[Piece] = []
    without: Counter[str] = Counter()
    double = 0
    for row in rows:
        content = row.example.content_id
        if row.example.kind == "text" or int(sha256_text(f"{seed}/share/{content}")[:8], 16) >= settings.share * 2**32:
            continue
        order = sorted(
            range(len(settings.templates)), key=lambda number: sha256_text(f"{seed}/template/{number}/{content}")
        )
        for number in order[: settings.per_row]:
            template = settings.templates[number]
            missing = next((name for name in slots(template) - {QUESTION} if row.column(name) is None), None)
            if missing is not None:
                without[missing] += 1
                continue
            example = _asked_as(row, template)
            if plain(question_of(example)) in known:
                double += 1
                continue
            known.add(plain(question_of(example)))
            added.append(changed(row, example, augmented=f"template {number + 1}"))
    notes = [f"templates: {len(added)} rows were added to {len(rows)}"]
    notes += [f"templates: {count} times a row had no column '{name}'" for name, count in without.items()]
    if double:
        notes.append(f"templates: {double} new rows ask what another row asks and were left out")
    return added, notes


def _asked_as(row: Piece, template: str) -> Example:
    """The example with its last question put into the template."""
    example = row.example
    last = example.prompt[-1]
    values = {name: row.column(name) for name in slots(template) - {QUESTION}}
    said = "".join(
        text + ("" if name is None else last.content if name == QUESTION else str(values[name]))
        for text, name, _, _ in string.Formatter().parse(template)
    )
    return example.model_copy(update={"prompt": (*example.prompt[:-1], last.model_copy(update={"content": said}))})
