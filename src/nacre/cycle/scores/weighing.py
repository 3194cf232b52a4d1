"""Two sets of weights side by side: bytes on disk, decoding speed, perplexity and whether they say the same."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.latency import Speed, speeds
from nacre.model.load import load_model, load_tokenizer, positions
from nacre.records import Decoding, Example, Report, RowsFile, Weighed, Weights

TOKENS = 32  # decoded for each prompt whose speed is taken
Tasks = Sequence[tuple[str, RowsFile]]


class Pair(NamedTuple):
    """Both sides, and the share of answers, and of their tokens, that are the same; None where none was given."""

    before: Weighed
    after: Weighed
    same_answers: float | None
    same_tokens: float | None


def weigh(workspace: Workspace, scorer: Scorer, before: Weights, after: Weights, tasks: Tasks) -> Pair:
    """Measure both on all dev rows of the tasks; the reports are kept, so that the gate makes none of them again.

    Speed is taken first, with both models in memory and in turn.

    Raises:
        InputError: see `Scorer.reports`.
    """
    sides = (before, after)
    fast = _speeds(workspace, sides, tasks)
    reports = [scorer.reports(weights, tasks) for weights in sides]
    old, new = (
        Weighed(
            size_bytes=weights_bytes(weights),
            tokens_s=speed.tokens_s if speed else None,
            first_token_s=speed.first_token_s if speed else None,
            perplexity=_perplexity(report.values()),
        )
        for weights, speed, report in zip(sides, fast, reports, strict=True)
    )
    same_answers, same_tokens = _same(load_tokenizer(before), reports[0], reports[1])
    return Pair(old, new, same_answers, same_tokens)


def weights_bytes(weights: Weights) -> int:
    """Bytes of the safetensors files that are needed to answer: the model's, and the adapter's on it."""
    folders = filter(None, (Path(weights.model), weights.adapter))
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.safetensors"))


def _speeds(workspace: Workspace, sides: Sequence[Weights], tasks: Tasks) -> Sequence[Speed | None]:
    """How fast each decodes after the dev rows' prompts; None where no task has rows to be answered."""
    rows = [row for _, dev in tasks for row in read_rows(workspace.memory, dev) if row.kind == "sft"]
    longest = min([workspace.settings.evaluate.max_length, *filter(None, map(positions, sides))])
    tokens = min(TOKENS, longest // 2)
    if not rows or tokens < 2:
        return [None for _ in sides]
    asked = [(load_model(weights), load_tokenizer(weights)) for weights in sides]
    return speeds(asked, _spread(rows), Decoding(max_new_tokens=tokens, max_length=longest))


def _spread(rows: list[Example]) -> list[Example]:
    """Some rows of middle length: neither the shortest prompt nor the longest says how long one takes."""
    ordered = sorted(rows, key=lambda row: sum(len(message.content) for message in row.prompt))
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter]


def _perplexity(reports: Iterable[Report]) -> float | None:
    """exp of the mean loss of all references' tokens, in nats, over all reports together."""
    said = [one for report in reports for one in report.said if one.nll is not None]
    tokens = sum(one.tokens for one in said)
    return math.exp(sum(one.nll or 0.0 for one in said) / tokens) if tokens else None


def _same(
    tokenizer: object, before: Mapping[str, Report], after: Mapping[str, Report]
) -> tuple[float | None, float | None]:
    """Share of equal answers, and of the tokens of all answers up to the first one that differs."""
    pairs = [
        (old.said_at[place], new.said_at[place])
        for old, new in ((before[task], after[task]) for task in before)
        for place in old.said_at
        if place in new.said_at
    ]
    if not pairs:
        return None, None
    same = longest = 0
    for old_text, new_text in pairs:
        old, new = (_tokens(tokenizer, text) for text in (old_text, new_text))
        same += _prefix(old, new)
        longest += max(len(old), len(new))
    return sum(old == new for old, new in pairs) / len(pairs), same / longest if longest else 1.0


def _prefix(old: Sequence[int], new: Sequence[int]) -> int:
    """How many tokens are the same before the first one that differs."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))


def _tokens(tokenizer: object, text: str) -> list[int]:
    """The tokens of an answer, and one more that stands for its end."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)  # type: ignore[attr-defined] # transformers' own
    return [*ids, -1]
