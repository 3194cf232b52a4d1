"""Losses of versions that cut text into different tokens, brought to one unit.

A loss per token is a matter of the tokens: a version whose vocabulary has whole terms says more with each, and loses
more by it. What can be compared is the loss of the same characters. The first token of a text follows nothing and is
not scored, so its characters do not count either.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nacre.model.chat import encode_text
from nacre.records import Example, Report
from nacre.records.report import Said

_PER_TOKEN = {"likelihood", "judged_likelihood", "perplexity"}
_LARGEST = 700.0  # nats; exp of more does not fit a float


class Reader(NamedTuple):
    """Who read the rows: a tokenizer, and how many tokens its model takes at once."""

    tokenizer: Any
    max_length: int


def in_same_units(
    old: Report, new: Report, examples: Sequence[Example], readers: tuple[Reader, Reader]
) -> tuple[Report, str]:
    """The new report with its losses per token of the old version, and a sentence; as it is where nothing differs.

    Args:
        old: what the new report is held against.
        new: of the same dev rows.
        examples: the dev rows.
        readers: of the old version, and of the new one.
    """
    said = dict(zip(old.places, old.said, strict=False))
    rows = [(place, said[place], one) for place, one in zip(new.places, new.said, strict=False) if place in said]
    if not old.said or not new.said or all(one.tokens == other.tokens for _, one, other in rows):
        return new, ""
    rates = {place: _rate(examples[place], one, other, readers) for place, one, other in rows}
    scores: dict[str, tuple[float, ...]] = dict(new.scores)
    for name in _PER_TOKEN & scores.keys():
        pairs = zip(new.places, scores[name], strict=True)
        scores[name] = tuple(
            _score(name, rates[place], examples[place]) if place in rates else score for place, score in pairs
        )
    note = f"{new.task}: losses are per token of the version before, because the two have different vocabularies"
    return new.changed(scores=scores), note


def _score(name: str, rate: float, example: Example) -> float:
    """What a metric per token makes of a loss of `rate` nats a token."""
    if name == "perplexity":
        return math.exp(min(_LARGEST, rate))
    likelihood = math.exp(-rate)
    return 1 - likelihood if name == "judged_likelihood" and example.desirable is False else likelihood


def bits_per_character(report: Report, examples: Sequence[Example], reader: Reader) -> float:
    """What a version needs for a character of plain texts, all rows of the report together."""
    nats = sum(one.nll or 0.0 for one in report.said)
    characters = sum(_characters(examples[place], reader) for place in report.places)
    return nats / math.log(2) / max(1, characters)


def _rate(example: Example, old: Said, new: Said, readers: tuple[Reader, Reader]) -> float:
    """The new version's nats per token of the old one: its nats a character times the old one's characters a token."""
    before, after = (_characters(example, reader) for reader in readers)
    return (new.nll or 0.0) / max(1, after) * before / max(1, old.tokens)


def _characters(example: Example, reader: Reader) -> int:
    """Characters of a row whose loss was taken: of a text all but those of each block's first token."""
    if example.kind != "text":
        return max(1, len(example.answer))
    text = "\n".join(message.content for message in (*example.prompt, *example.answers))
    blocks = encode_text([text], reader.tokenizer, reader.max_length)
    first = (reader.tokenizer.decode(block.input_ids[:1]) for block in blocks)
    return len(text) - sum(map(len, first))
