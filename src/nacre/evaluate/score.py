"""Score one model on one task: answers, losses, every metric, latency, in one report."""

import math
import time
from collections.abc import Sequence
from typing import Any

from nacre.base.errors import InputError, NacreError
from nacre.base.progress import progress
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.plan import generates, plan, planned_key, reads_judgements, reads_pairs, reads_text
from nacre.model.generate import Answer, Loss, answer_all, answer_losses, rewards, text_losses
from nacre.model.load import judges
from nacre.records import Decoding, Example, Report, TaskSettings, Weights

__all__ = ["planned_key", "score"]

LATENCY_REQUESTS = 8


def score(
    weights: Weights,
    task: str,
    dev: str,
    examples: Sequence[Example],
    settings: TaskSettings,
    *,
    model: Any,
    tokenizer: Any,
    max_length: int,
) -> Report:
    """Answer a task's dev rows and score every answer with every metric that fits.

    Plain-text rows have nothing to answer: only the metrics that read losses are measured. Of preference pairs
    and judged answers the probabilities are read, nothing is generated either. A reward model is asked for its
    numbers, and can be scored on pairs alone. `dev` is the SHA-256 of the dev rows file; `max_length` is in
    tokens, prompt and answer together.

    Raises:
        InputError: what `plan` refuses, or a `max_length` beyond the model's positions.
        NacreError: a loss that is not a number, or a metric that breaks its contract.
    """
    started = time.perf_counter()
    _check_length(weights, model, max_length)
    chosen = plan(examples, settings, tokenizer, max_length)
    answers, losses = ([], []) if judges(model) else _run(task, examples, chosen.decoding, model, tokenizer)
    unknown = sum(not math.isfinite(loss.nll) for loss in losses)
    if unknown:
        raise NacreError(
            f"the loss of {unknown} of {len(losses)} rows is not a number",
            where=f"{weights.model}, task {task}",
            fix="the weights are damaged or the training diverged: train again with a lower learning rate",
        )
    if judges(model):
        pairs = _rewards(weights, task, examples, model, tokenizer, max_length)
    else:
        pairs = _likelier(examples, losses, model, tokenizer, max_length)
    scored = Scored(
        answers=[answer.text for answer in answers] or [""] * len(examples),
        references=[example.answer for example in examples],
        losses=[(loss.nll, loss.tokens) for loss in losses],
        pairs=pairs,
        wanted=[example.desirable is not False for example in examples] if reads_judgements(examples) else [],
    )
    scores, totals, notes = _measure(scored, with_answers=bool(answers))
    latency = _latency(model, tokenizer, examples, chosen.decoding) if answers else ()
    return Report(
        weights=weights.identity,
        task=task,
        dev=dev,
        rows=len(examples),
        metric=chosen.metric,
        why=chosen.why,
        decoding=chosen.decoding,
        scores=scores,
        totals=totals,
        answers=tuple(answer.text for answer in answers),
        latency_s=latency,
        seconds=time.perf_counter() - started,
        notes=(*_row_notes(answers, losses), *notes),
    )


def _check_length(weights: Weights, model: Any, max_length: int) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions and max_length > positions:
        raise InputError(
            f"max_length {max_length} is more than the {positions} positions the model knows",
            where=weights.model,
            fix=f"set max_length to at most {positions}",
        )


def _run(
    task: str, examples: Sequence[Example], decoding: Decoding, model: Any, tokenizer: Any
) -> tuple[list[Answer], list[Loss]]:
    """Answers (none for plain text) and losses, under one progress bar."""
    if reads_text(examples):
        texts = ["\n".join(message.content for message in (*row.prompt, *row.answers)) for row in examples]
        with progress(f"score {task}", len(texts)) as advance:
            losses = text_losses(model, tokenizer, texts, decoding.max_length)
            advance(len(texts))
        return [], losses
    if not generates(examples):
        with progress(f"score {task}", len(examples)) as advance:
            return [], answer_losses(model, tokenizer, examples, decoding.max_length, advance=advance)
    with progress(f"score {task}", 2 * len(examples)) as advance:
        answers = answer_all(model, tokenizer, examples, decoding, advance=advance)
        losses = answer_losses(model, tokenizer, examples, decoding.max_length, advance=advance)
    return answers, losses


def _likelier(
    examples: Sequence[Example], losses: Sequence[Loss], model: Any, tokenizer: Any, max_length: int
) -> list[tuple[float, float]]:
    """Mean log-probability per token of the chosen answers, which `losses` are of, and of the rejected ones."""
    if not reads_pairs(examples):
        return []
    turned = [example.changed(answers=example.answers[::-1]) for example in examples]
    others = answer_losses(model, tokenizer, turned, max_length)
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
        fix = "the weights are damaged or the training diverged: train again with a lower learning rate"
        raise NacreError("a reward is not a number", where=f"{weights.folder}, task {task}", fix=fix)
    return list(zip(found[: len(examples)], found[len(examples) :], strict=True))


def _measure(scored: Scored, *, with_answers: bool) -> tuple[dict[str, tuple[float, ...]], dict[str, float], list[str]]:
    """Scores, totals and notes of every metric in the table that can be measured."""
    scores: dict[str, tuple[float, ...]] = {}
    totals: dict[str, float] = {}
    notes: list[str] = []
    available = {
        "answers": with_answers,
        "losses": bool(scored.losses),
        "pairs": bool(scored.pairs),
        "judgements": bool(scored.wanted),
    }
    for name in METRICS.names():
        metric: Metric = METRICS.load(name)()
        if not available[metric.reads]:
            continue
        found = tuple(metric.measure(scored))
        _check(name, metric, found, rows=len(scored.references))
        scores[name] = found
        total = metric.total(scored)
        if total is not None:
            totals[name] = total
        notes += filter(None, [metric.note(scored)])
    return scores, totals, notes


def _check(name: str, metric: Metric, scores: tuple[float, ...], *, rows: int) -> None:
    """Hold a metric (a third party's too) to its contract before the gate reads it."""
    problem = ""
    if len(scores) != rows:
        problem = f"{len(scores)} scores for {rows} rows"
    elif not all(map(math.isfinite, scores)):
        problem = "a score that is not a finite number"
    elif metric.gate and not all(0 <= value <= 1 for value in scores):
        problem = "a score outside 0 to 1"
    if problem:
        target = METRICS.targets()[name]
        raise NacreError(f"the metric '{name}' gave {problem}", where=target, fix="correct or remove that metric")


def _latency(model: Any, tokenizer: Any, examples: Sequence[Example], decoding: Decoding) -> tuple[float, ...]:
    """Seconds of single requests, evenly spread over the rows, one at a time, after one that is not counted."""
    step = math.ceil(len(examples) / LATENCY_REQUESTS)
    seconds = []
    answer_all(model, tokenizer, examples[:1], decoding)
    for example in examples[::step]:
        started = time.perf_counter()
        answer_all(model, tokenizer, [example], decoding)
        seconds.append(time.perf_counter() - started)
    return tuple(seconds)


def _row_notes(answers: Sequence[Answer], losses: Sequence[Loss]) -> list[str]:
    """What did not fit or did not end, counted."""
    counts = {
        "prompts were shortened to fit": sum(answer.cut_tokens > 0 for answer in answers),
        "answers were still going on at the last token allowed": sum(not answer.finished for answer in answers),
        "rows were shortened to fit before their loss was taken": sum(loss.cut_tokens > 0 for loss in losses),
        "rows have no token to score": sum(loss.tokens == 0 for loss in losses),
    }
    return [f"{count} of {len(losses)} {what}" for what, count in counts.items() if count]
