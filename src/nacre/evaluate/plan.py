"""How a task is scored, decided from its dev rows alone: the same rows give the same plan for every version."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nacre.base.errors import InputError
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.choice_accuracy import MOST_OPTIONS, has_options, one_letter
from nacre.evaluate.metrics.exact_match import plain
from nacre.evaluate.metrics.metric import Scored
from nacre.evaluate.metrics.words import unspaced, words
from nacre.records import Decoding, Example, TaskSettings, Weights
from nacre.records.report import report_key

SHORT_WORDS = 12  # an answer of at most so many words (Chinese: characters) is short
SHORT_SHARE = 0.95  # a task's answers are short if this share of them is: one odd row changes nothing
AFTERWARDS = {
    "human": "nacre review, which asks people about trained versions",
    "judge_pairwise": "nacre evaluate NEW --against OLD, which asks the judge about two versions",
}  # metrics that compare versions which must be there first, and where they come from
SPARE_SHARE, SPARE_TOKENS = 1.25, 8  # new tokens allowed: the longest reference with room to be wrong in


class Plan(NamedTuple):
    """The metric the gate reads, how answers are generated, and why."""

    metric: str
    decoding: Decoding
    why: str


def plan(examples: Sequence[Example], settings: TaskSettings, tokenizer: Any, max_length: int) -> Plan:
    """Choose what the user has not: the metric and the length of the answers.

    `max_length` is in tokens, prompt and answer together.

    Raises:
        InputError: no rows; a metric that does not exist, that the gate cannot read or that this task does not
            allow; no room for the answers; rows without a reference.
    """
    if not examples:
        raise InputError("there are no dev rows to score", where="dev rows", fix="add rows to dev.json")
    metric, why = _metric(examples, settings, aligned=getattr(tokenizer, "aligns", False))
    new_tokens, length_why = _new_tokens(examples, settings, tokenizer, max_length)
    options = _options(examples) if settings.answers == "options" else ()
    decoding = Decoding(max_new_tokens=new_tokens, max_length=max_length, options=options)
    length_why = f"the likeliest of {len(options)} options is the answer" if options else length_why
    return Plan(metric, decoding, f"{metric}: {why}; {length_why}")


def planned_key(
    weights: Weights, dev: str, examples: Sequence[Example], settings: TaskSettings, tokenizer: Any, max_length: int
) -> str:
    """The key of the report that `score` would make from the same arguments: look it up before loading a model."""
    chosen = plan(examples, settings, tokenizer, max_length)
    return report_key(weights.identity, dev, chosen.metric, chosen.decoding)


def reads_text(examples: Sequence[Example]) -> bool:
    """Whether there is nothing to answer: some rows are plain text."""
    return any(example.kind == "text" for example in examples)


def reads_pairs(examples: Sequence[Example]) -> bool:
    """Whether every row is a preference pair: nothing is answered, the model is asked which answer it prefers."""
    return all(example.kind == "preference" for example in examples)


def reads_judgements(examples: Sequence[Example]) -> bool:
    """Whether some rows hold an answer that was judged bad: there is no reference to match."""
    return any(example.desirable is False for example in examples)


def _metric(examples: Sequence[Example], settings: TaskSettings, *, aligned: bool) -> tuple[str, str]:
    if settings.metric is not None:
        return _as_set(settings.metric, examples, aligned=aligned), "chosen in the settings"
    rows = len(examples)
    return ("recall_at_1", f"pictures and captions in {rows} rows") if aligned else _by_rows(examples)


def _by_rows(examples: Sequence[Example]) -> tuple[str, str]:
    """The metric that suits what the rows ask of a model that answers."""
    rows = len(examples)
    if reads_pairs(examples):
        return "preference_accuracy", f"preference pairs in {rows} rows"
    if reads_judgements(examples):
        bad = sum(example.desirable is False for example in examples)
        return "judged_likelihood", f"{bad} of {rows} answers were judged bad"
    if reads_text(examples):
        return "likelihood", f"plain text in {rows} rows, nothing to answer"
    answers = [plain(example.answer) for example in examples]
    lengths = [len(words(answer)) for answer in answers]
    distinct = len(set(answers))
    if sum(length <= SHORT_WORDS for length in lengths) < SHORT_SHARE * rows:
        return "rouge_l", f"long free answers (median {sorted(lengths)[rows // 2]} words) in {rows} rows"
    if one_letter(answers) and has_options(answers):
        return "choice_accuracy", f"one of {distinct} letters in {rows} rows"
    if 2 * distinct <= rows:
        return "exact_match", f"{distinct} distinct short answers in {rows} rows"
    if sum(map(_one_word, answers)) >= SHORT_SHARE * rows:
        return "exact_match", f"answers of one word in {rows} rows"
    return "token_f1", f"short free answers ({distinct} distinct) in {rows} rows"


def _as_set(name: str, examples: Sequence[Example], *, aligned: bool) -> str:
    """The metric of that name, if the gate can read it of these rows.

    Raises:
        InputError: it cannot, or there is no such metric.
    """
    if name in AFTERWARDS:
        fix = f"use {AFTERWARDS[name]}, and another metric here"
        raise InputError(f"no version can be scored by '{name}' alone", where="evaluate, metric", fix=fix)
    chosen = METRICS.load(name, where="evaluate, metric")
    if chosen.reads == "ranks" and not aligned:
        fix = "choose another metric: this model answers"
        raise InputError(f"'{name}' is for two encoders", where="evaluate, metric", fix=fix)
    if chosen.gate and _fits(chosen.reads, examples):
        references = [example.answer for example in examples]
        if not chosen().applies(Scored(answers=references, references=references, losses=[])):
            what = f"'{name}' means nothing for these rows: {chosen.definition}"
            raise InputError(what, where="evaluate, metric", fix="choose another metric for this task")
        return name
    usable = {other: METRICS.load(other) for other in METRICS.names() if other not in AFTERWARDS}
    fitting = [other for other, kind in usable.items() if kind.gate and _fits(kind.reads, examples)]
    lacking = "are plain text" if reads_text(examples) else "have none"
    fitting = [other for other in fitting if METRICS.load(other).reads != "ranks"]
    reason = f"needs {chosen.reads}, and these rows {lacking}" if chosen.gate else "is no score from 0 to 1"
    raise InputError(
        f"the gate cannot read '{name}': it {reason}",
        where="evaluate, metric",
        fix=f"choose one of {', '.join(fitting)}",
    )


def _options(examples: Sequence[Example]) -> tuple[str, ...]:
    """The different references, in order.

    Raises:
        InputError: nothing is answered, or they are no choice among a few.
    """
    given = [example.answer for example in examples]
    if generates(examples) and has_options(given):
        return tuple(sorted(set(given)))
    raise InputError(
        f"these {len(given)} rows are no choice among a few options: each of at most {MOST_OPTIONS} different "
        "references must come twice on average, and none be empty",
        where="evaluate, answers: options",
        fix="leave answers out: then the model answers freely",
    )


def _one_word(answer: str) -> bool:
    return len(answer.split()) <= 1 and sum(map(unspaced, answer)) <= 1


def _fits(reads: str, examples: Sequence[Example]) -> bool:
    if reads == "pairs":
        return reads_pairs(examples)
    if reads == "judgements":
        return reads_judgements(examples)
    return reads == "losses" or generates(examples)


def generates(examples: Sequence[Example]) -> bool:
    """Whether answers are generated: there is something to answer, and a reference to match."""
    return not (reads_text(examples) or reads_pairs(examples) or reads_judgements(examples))


def _new_tokens(
    examples: Sequence[Example], settings: TaskSettings, tokenizer: Any, max_length: int
) -> tuple[int, str]:
    if settings.max_new_tokens is not None:
        if settings.max_new_tokens >= max_length:
            raise InputError(
                f"max_new_tokens {settings.max_new_tokens} leaves no room for a prompt in {max_length} tokens",
                where="evaluate, max_new_tokens",
                fix=f"set it below {max_length}",
            )
        return settings.max_new_tokens, f"up to {settings.max_new_tokens} new tokens as set"
    if not generates(examples):
        return 1, "no new tokens"
    texts = [example.answer for example in examples]
    longest = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
    wanted, most = math.ceil(longest * SPARE_SHARE) + SPARE_TOKENS, max(1, max_length // 2)
    if wanted > most:
        return most, f"up to {most} new tokens, half of max_length (longest reference {longest})"
    return wanted, f"up to {wanted} new tokens (longest reference {longest})"
