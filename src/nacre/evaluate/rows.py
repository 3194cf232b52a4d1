"""What the metrics read of each row: the answer, and how likely the reference is. No row is answered twice.

A row's result carries the hash of who made it. With greedy decoding the same answerer says the same again, so a row is
taken from an earlier report where that hash is equal. Of weights with one adapter or none it is the whole of them. Of
several adapters behind a router it is the base and the one adapter that the router picks for the row: whoever adds an
adapter changes nothing for the rows that still go to another one.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import content_hash, sha256_file
from nacre.base.progress import progress
from nacre.evaluate.plan import generates, reads_pairs, reads_text
from nacre.model.align import retrieve
from nacre.model.chat import IGNORED, encode
from nacre.model.choose import choose_all
from nacre.model.generate import Answer, answers_and_losses, asked_prompts
from nacre.model.load import judges
from nacre.model.losses import Loss, answer_losses, last_answer, rewards, text_losses
from nacre.model.quantised import answers_quantised
from nacre.model.router import BASE
from nacre.records import Decoding, Example, Report, Weights
from nacre.records.report import Said

__all__ = ["Row", "Source", "known_rows", "result_rows"]

_DIVERGED = "the weights are damaged or the training diverged: train again with a lower learning rate"


class Row(NamedTuple):
    """One row's result and the text of the answer, which is empty where nothing is generated."""

    text: str
    said: Said


@dataclass(frozen=True)
class Source:
    """Who answers.

    Attributes:
        weights: what the report is about.
        tokenizer: of these weights.
        max_length: tokens of prompt and answer together.
        load: gives the model; called only when a row has to be answered.
        below: identity of the model that adapters of `weights` sit on; empty where it is not known.
    """

    weights: Weights
    tokenizer: Any
    max_length: int
    load: Callable[[], Any]
    below: str = ""

    @property
    def aligns(self) -> bool:
        """Whether they are two encoders, which find and do not say."""
        return bool(getattr(self.tokenizer, "aligns", False))

    def by(self, examples: Sequence[Example], decoding: Decoding) -> list[str]:
        """The hash of who answers each row, see the module."""
        whole = content_hash([self.weights.identity, "", self._words, ""])
        shared = bool(self.weights.routed and self.below and self._words and generates(examples))
        return self._routed_by(examples, decoding, whole) if shared else [whole] * len(examples)

    def _routed_by(self, examples: Sequence[Example], decoding: Decoding, whole: str) -> list[str]:
        assert self.weights.adapter is not None, "routed weights have adapters"
        asked, prompts = asked_prompts(self.tokenizer, examples, decoding)
        chosen = self.load().choose(prompts)
        bits = answers_quantised(self.weights.adapter)
        held = bits.model_dump_json() if bits is not None else ""
        hashes = {BASE: ""}
        for name in set(chosen) - {BASE}:
            files = [self.weights.adapter / name / file for file in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME)]
            hashes[name] = content_hash([sha256_file(path) for path in files])
        by = {name: content_hash([self.below, own, self._words, held]) for name, own in hashes.items()}
        # Of a row that was cut the loss may be read with another adapter than the answer: it stays this version's own.
        same = [
            len(there) == len(prompt) and self._read(row) == prompt
            for row, there, prompt in zip(examples, asked, prompts, strict=True)
        ]
        return [by[name] if alike else whole for name, alike in zip(chosen, same, strict=True)]

    def _read(self, example: Example) -> list[int]:
        """What stands before the reference when its loss is taken; nothing where the row was cut."""
        row = encode(example, self.tokenizer, self.max_length)
        labels = last_answer(row.labels)
        start = next((place for place, label in enumerate(labels) if label != IGNORED), 0)
        return [] if row.cut else row.input_ids[:start]

    @cached_property
    def _words(self) -> str:
        """Hash of the tokenizer and its template; empty for one that cannot be written down."""
        inner = getattr(self.tokenizer, "backend_tokenizer", None)
        if inner is None:
            return ""
        written = json.loads(inner.to_str())
        told = {
            key: value for key, value in written.items() if key not in ("padding", "truncation")
        }  # of the last call
        return content_hash([told, str(self.tokenizer.chat_template)])


def known_rows(reports: Iterable[Report], dev: str, decoding: Decoding) -> dict[tuple[int, str], Row]:
    """What earlier reports say of these dev rows, by the row's place and by who answered."""
    found: dict[tuple[int, str], Row] = {}
    for report in reports:
        if report.said and (report.dev, report.decoding) == (dev, decoding):
            texts = report.answers or ("",) * report.rows
            for place, said, text in zip(report.places, report.said, texts, strict=True):
                found.setdefault((place, said.by), Row(text, said))
    return found


def result_rows(
    task: str,
    examples: Sequence[Example],
    places: Sequence[int],
    decoding: Decoding,
    source: Source,
    known: Mapping[tuple[int, str], Row],
) -> tuple[list[Row], int]:
    """The results of the rows at `places`, in that order, and how many of them had to be found out now.

    Raises:
        InputError: a reward model is asked for something else than pairs.
        NacreError: a loss or a reward that is not a number.
    """
    by = source.by([examples[place] for place in places], decoding)
    missing = [place for place, who in zip(places, by, strict=True) if (place, who) not in known]
    fresh = dict(zip(missing, _run(task, examples, missing, decoding, source) if missing else [], strict=True))
    rows = [
        fresh[place]._replace(said=fresh[place].said._replace(by=who)) if place in fresh else known[place, who]
        for place, who in zip(places, by, strict=True)
    ]
    return rows, len(missing)


def _run(task: str, every: Sequence[Example], places: Sequence[int], decoding: Decoding, source: Source) -> list[Row]:
    """Answers (where there is something to answer) and losses of the rows at `places`."""
    examples, model, tokenizer = [every[place] for place in places], source.load(), source.tokenizer
    if source.aligns:
        return _found(task, every, places, source)
    if judges(model):
        pairs = _rewards(source.weights, task, examples, model, tokenizer, source.max_length)
        return [Row("", Said("", None, 0, 0, pair=pair)) for pair in pairs]
    answers: Sequence[Answer | None] = [None] * len(examples)
    # what a task reads is decided by all of its rows: one text among them makes it a task of texts
    answering = generates(every)
    with progress(f"score {task}", len(examples)) as advance:
        if reads_text(every):
            texts = ["\n".join(message.content for message in (*row.prompt, *row.answers)) for row in examples]
            losses = text_losses(model, tokenizer, texts, decoding.max_length)
            advance(len(texts))
        elif decoding.options:
            answers, losses = choose_all(model, tokenizer, examples, decoding, advance=advance)
        elif answering:
            answers, losses = answers_and_losses(model, tokenizer, examples, decoding, advance=advance)
        else:
            losses = answer_losses(model, tokenizer, examples, decoding.max_length, advance=advance)
    unknown = sum(not math.isfinite(loss.nll) for loss in losses)
    if unknown:
        what = f"the loss of {unknown} of {len(losses)} rows is not a number"
        raise NacreError(what, where=f"{source.weights.model}, task {task}", fix=_DIVERGED)
    likelier = _likelier(every, examples, losses, source)
    return [_row(*found) for found in zip(answers, losses, likelier, strict=True)]


def _found(task: str, every: Sequence[Example], places: Sequence[int], source: Source) -> list[Row]:
    """What two encoders find for the rows at `places` among all rows of the task.

    Raises:
        InputError: a row is not one picture with a caption.
    """
    pairs = [((row.images or ("",))[0], row.answer) for row in every]
    if any(len(row.images or ()) != 1 or not row.answer for row in every):
        what = f"two encoders find pictures and captions, and rows of {task} are not one picture with a caption"
        raise InputError(what, where=source.weights.folder, fix="score them on rows of one picture and its caption")
    with progress(f"score {task}", len(pairs)) as advance:
        found = retrieve(source.load(), source.tokenizer, pairs, source.max_length, advance)
    own = [found[place] for place in places]
    return [Row(one.caption, Said("", one.nll, 1, 0, ranks=one.ranks)) for one in own]


def _row(answer: Answer | None, loss: Loss, pair: tuple[float, float] | None) -> Row:
    said = Said("", loss.nll, loss.tokens, loss.cut_tokens, pair=pair)
    if answer is None:
        return Row("", said)
    said = said._replace(new_tokens=answer.tokens, prompt_cut=answer.cut_tokens, finished=answer.finished)
    return Row(answer.text, said)


def _likelier(
    every: Sequence[Example], examples: Sequence[Example], losses: Sequence[Loss], source: Source
) -> Sequence[tuple[float, float] | None]:
    """Mean log-probability per token of the chosen answers, which `losses` are of, and of the rejected ones."""
    if not reads_pairs(every):
        return [None] * len(examples)
    turned = [example.changed(answers=example.answers[::-1]) for example in examples]
    others = answer_losses(source.load(), source.tokenizer, turned, source.max_length)
    return [
        (-one.nll / max(one.tokens, 1), -other.nll / max(other.tokens, 1))
        for one, other in zip(losses, others, strict=True)
    ]


def _rewards(
    weights: Weights, task: str, examples: Sequence[Example], model: Any, tokenizer: Any, max_length: int
) -> list[tuple[float, float]]:
    """What a reward model gives the chosen and the rejected answers.

    Raises:
        InputError: the rows are no pairs.
        NacreError: a number that is none.
    """
    if not reads_pairs(examples):
        raise InputError(
            f"a reward model can only tell which of two answers is better, and the rows of {task} are no pairs",
            where=weights.folder,
            fix="score it on preference pairs",
        )
    turned = [example.changed(answers=example.answers[::-1]) for example in examples]
    with progress(f"score {task}", 2 * len(examples)) as advance:
        found = rewards(model, tokenizer, [*examples, *turned], max_length, advance=advance)
    if not all(map(math.isfinite, found)):
        raise NacreError("a reward is not a number", where=f"{weights.folder}, task {task}", fix=_DIVERGED)
    return list(zip(found[: len(examples)], found[len(examples) :], strict=True))
