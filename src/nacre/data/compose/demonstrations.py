"""Few-shot demonstrations: rows of the same task that are put into a row's prompt, question and answer.

They come from train rows alone; never the row itself, nor one that asks the same, nor one that is a dev row. The
nearest are told by the cosine of TF-IDF weighted parts of words (two to four letters, so that Chinese needs no words).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, field_validator
from sklearn.feature_extraction.text import TfidfVectorizer

from nacre.base.config import Settings
from nacre.base.hashing import sha256_text
from nacre.data.compose.likeness import plain
from nacre.data.compose.pieces import DEMONSTRATIONS, ORIGIN_FILE, ORIGIN_LINE, Piece, changed, place_of, question_of
from nacre.data.convert import SHORT_CHARS
from nacre.data.curriculum import dataset_of
from nacre.records import Example

_BLOCK = 256


class Demonstrations(Settings):
    """Settings of demonstrations in prompts."""

    count: int = Field(3, ge=1, le=32, description="demonstrations in each prompt")
    how: Literal["nearest", "fixed"] = Field(
        "nearest", description="those most like the question, or the same ones in every prompt"
    )
    template: str = Field("{question}\n{answer}", description="one demonstration, with {question} and {answer}")
    between: str = Field("\n\n", description="stands after each demonstration")

    @field_validator("template")
    @classmethod
    def _with_both(cls, template: str) -> str:
        if missing := [place for place in ("{question}", "{answer}") if place not in template]:
            raise ValueError(f"the template {template!r} must hold {' and '.join(missing)}")
        return template


def demonstrate(
    rows: Sequence[Piece], settings: Demonstrations, *, pool: Sequence[Piece], dev: Sequence[Example], seed: int
) -> tuple[list[Piece], list[str]]:
    """The rows with demonstrations before their questions, named in the column `demonstrations`; and what was done.

    Args:
        rows: their prompts get them; pairs, judged answers and dialogues too, plain text does not.
        settings: how many, which, and how they are written.
        pool: the train rows they may come from.
        dev: rows that are never shown, whatever the pool holds.
        seed: of the fixed ones.
    """
    hidden = {plain(question_of(one)) for one in dev}
    found: list[Piece] = list(rows)
    few, none = 0, 0
    for task in dict.fromkeys(dataset_of(row.example) for row in rows):
        usable = [piece for piece in pool if dataset_of(piece.example) == task and _shows(piece.example, hidden)]
        usable = list({plain(question_of(piece.example)): piece for piece in usable}.values())
        places = [place for place, row in enumerate(rows) if dataset_of(row.example) == task]
        places = [place for place in places if rows[place].example.kind != "text"]
        ranked = _ranked([rows[place].example for place in places], usable, settings, seed)
        for place, order in zip(places, ranked, strict=True):
            others = [usable[k] for k in order if not _itself(rows[place].example, usable[k].example)]
            shown = others[: settings.count]
            few += 0 < len(shown) < settings.count
            none += not shown
            if shown:
                # the nearest stands last, next to the question
                found[place] = _with(rows[place], shown[::-1], settings)
    texts = sum(row.example.kind == "text" for row in rows)
    notes = [
        f"demonstrations: {len(rows) - none - texts} of {len(rows)} prompts show {settings.count} other train rows"
    ]
    notes += [f"demonstrations: {few} prompts show fewer, because their task has no more"] if few else []
    notes += [f"demonstrations: {none} prompts show none, because their task has no other row"] if none else []
    return found, notes


def _shows(example: Example, hidden: set[str]) -> bool:
    """Whether a row can be shown: one question with one wanted answer, and no dev row."""
    plain_answer = (
        example.kind == "sft" or (example.kind == "kto" and example.desirable) or example.kind == "preference"
    )
    return plain_answer and len(example.prompt) == 1 and plain(question_of(example)) not in hidden


def _itself(row: Example, other: Example) -> bool:
    """Whether the other asks the same, or stood at the place that the row was made from."""
    return place_of(row) == place_of(other) is not None or plain(question_of(row)) == plain(question_of(other))


def _ranked(asked: Sequence[Example], pool: Sequence[Piece], settings: Demonstrations, seed: int) -> list[list[int]]:
    """For each question the places in the pool, the best first: more than are shown, because of the row itself."""
    wanted = settings.count + 2
    if not pool or not asked:
        return [[] for _ in asked]
    if settings.how == "fixed":
        order = sorted(range(len(pool)), key=lambda k: sha256_text(f"{seed}/shown/{pool[k].example.content_id}"))
        return [order[:wanted] for _ in asked]
    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    known = weigh.fit_transform([question_of(piece.example) for piece in pool])
    found: list[list[int]] = []
    for start in range(0, len(asked), _BLOCK):
        block = weigh.transform([question_of(one) for one in asked[start : start + _BLOCK]])
        similar = (block @ known.T).toarray()
        found += np.argsort(-similar, axis=1, kind="stable")[:, :wanted].tolist()
    return found


def _with(row: Piece, shown: Sequence[Piece], settings: Demonstrations) -> Piece:
    example = row.example
    texts = [
        settings.template.replace("{question}", "\0")
        .replace("{answer}", one.example.answer)
        .replace("\0", one.example.prompt[-1].content)
        for one in shown
    ]
    first = example.prompt[0]
    before = "".join(f"{text}{settings.between}" for text in texts)
    prompt = (first.model_copy(update={"content": before + first.content}), *example.prompt[1:])
    names = ", ".join(
        f"{one.example.origin.extra.get(ORIGIN_FILE, '')}:{one.example.origin.extra.get(ORIGIN_LINE, 0)}"
        for one in shown
    )
    if len(names) > SHORT_CHARS:
        names = f"{names[: SHORT_CHARS - 1]}…"
    return changed(row, example.model_copy(update={"prompt": prompt}), **{DEMONSTRATIONS: names})
