"""Score one model on one task: answers, losses, every metric, latency, in one report."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nacre.base.errors import InputError, NacreError
from nacre.evaluate.latency import Latency, measure
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.plan import Plan, generates, plan, planned_key, reads_judgements, reads_pairs
from nacre.evaluate.rows import Row, Source, known_rows, result_rows
from nacre.records import Example, Report, TaskSettings, Weights

__all__ = ["Opinions", "Wanted", "planned_key", "score", "score_rows"]


@dataclass(frozen=True)
class Wanted:
    """What is scored: a task's dev rows, or those `at` some places, and how.

    Attributes:
        task: its name.
        dev: SHA-256 of the dev rows file.
        examples: all of its rows; metric and decoding are chosen from all of them.
        settings: of the task.
        at: places of the rows that are scored; empty: all.
        aside: see `Report.aside`.
    """

    task: str
    dev: str
    examples: Sequence[Example]
    settings: TaskSettings
    at: tuple[int, ...] = ()
    aside: str = ""

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the rows that are scored."""
        return self.at or tuple(range(len(self.examples)))


@dataclass(frozen=True)
class Opinions:
    """What somebody else thought of the answers: a score for each of some rows.

    Attributes:
        scores: by place of the row, from 0 to 1; a row without one was not judged.
        judged: digest of who judged, and how.
        notes: in sentences.
    """

    scores: dict[int, float]
    judged: str
    notes: tuple[str, ...] = ()


Judge = Callable[[Sequence[int], Sequence[str]], Opinions]  # of places, and the answers there


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
    known = getattr(model.config, "max_position_embeddings", None)
    if known and max_length > known:
        raise InputError(
            f"max_length {max_length} is more than the {known} positions the model knows",
            where=weights.model,
            fix=f"set max_length to at most {known}",
        )
    return score_rows(Wanted(task, dev, examples, settings), Source(weights, tokenizer, max_length, lambda: model))


def score_rows(
    wanted: Wanted,
    source: Source,
    *,
    reports: Iterable[Report] = (),
    judge: Judge | None = None,
    timed: bool = True,
) -> Report:
    """The same with less work: what `reports` of these dev rows hold already is not found out again.

    The model is loaded only if a row is missing. `judge` gives the opinions where the metric is one; rows without an
    opinion are left out of the report. Not `timed`, no single requests are made to see how long they take.

    Raises:
        InputError: what `plan` refuses; the metric is an opinion and there is no judge.
        NacreError: a loss that is not a number, a metric that breaks its contract, or a judge that fails.
    """
    started = time.perf_counter()
    chosen = plan(wanted.examples, wanted.settings, source.tokenizer, source.max_length)
    reports = [report for report in reports if (report.dev, report.decoding) == (wanted.dev, chosen.decoding)]
    known = known_rows(reports, wanted.dev, chosen.decoding)
    rows, new = result_rows(wanted.task, wanted.examples, wanted.places, chosen.decoding, source, known)
    places, opinions = wanted.places, None
    if METRICS.load(chosen.metric).reads == "verdicts":
        opinions = _opinions(wanted, chosen, rows, judge)
        rows = [row for place, row in zip(places, rows, strict=True) if place in opinions.scores]
        places = tuple(place for place in places if place in opinions.scores)
    scored = _scored(wanted, places, rows, opinions)
    scores, totals, notes = _measure(scored, chosen.metric, with_answers=generates(wanted.examples))
    latency = _latency(wanted, chosen, source, reports) if timed else Latency()
    said = f"{len(wanted.places) - new} of {len(wanted.places)} rows had been answered before: not answered again"
    return Report(
        weights=source.weights.identity,
        task=wanted.task,
        dev=wanted.dev,
        rows=len(places),
        metric=chosen.metric,
        why=chosen.why,
        decoding=chosen.decoding,
        scores=scores,
        totals=totals,
        answers=tuple(row.text for row in rows) if generates(wanted.examples) else (),
        latency_s=latency.total_s,
        first_token_s=latency.first_token_s,
        token_s=latency.token_s,
        seconds=time.perf_counter() - started,
        notes=(*_row_notes(rows), *notes, *([said] if new < len(wanted.places) else []), *_noted(opinions)),
        said=tuple(row.said for row in rows),
        at=() if len(places) == len(wanted.examples) else places,
        aside=wanted.aside,
        judged=opinions.judged if opinions else "",
    )


def _opinions(wanted: Wanted, chosen: Plan, rows: Sequence[Row], judge: Judge | None) -> Opinions:
    """What the judge thinks of every answer.

    Raises:
        InputError: there is none.
        NacreError: it gave no verdict at all.
    """
    if judge is None:
        raise InputError(
            f"the metric '{chosen.metric}' needs somebody who judges the answers of {wanted.task}",
            where="evaluate.judge",
            fix="set evaluate.judge: {url: …, model: …}, or choose another metric",
        )
    opinions = judge(wanted.places, [row.text for row in rows])
    if not opinions.scores:
        what = f"none of the {len(rows)} answers got a verdict: {'; '.join(opinions.notes)}"
        fix = "look at what the judge said, and change evaluate.judge (prompt, model or max_tokens)"
        raise NacreError(what, where=f"evaluate.judge, task {wanted.task}", fix=fix)
    return opinions


def _noted(opinions: Opinions | None) -> tuple[str, ...]:
    return opinions.notes if opinions else ()


def _scored(wanted: Wanted, places: Sequence[int], rows: Sequence[Row], opinions: Opinions | None) -> Scored:
    examples, every = [wanted.examples[place] for place in places], wanted.examples
    return Scored(
        answers=[row.text for row in rows],
        references=[example.answer for example in examples],
        losses=[(row.said.nll, row.said.tokens) for row in rows if row.said.nll is not None],
        pairs=[row.said.pair for row in rows if row.said.pair is not None] if reads_pairs(every) else [],
        wanted=[example.desirable is not False for example in examples] if reads_judgements(every) else [],
        tokens=[row.said.new_tokens for row in rows],
        every_reference=[example.answer for example in every],
        verdicts=[opinions.scores[place] for place in places] if opinions else [],
        ranks=[row.said.ranks for row in rows if row.said.ranks is not None],
    )


def _measure(
    scored: Scored, chosen: str, *, with_answers: bool
) -> tuple[dict[str, tuple[float, ...]], dict[str, float], list[str]]:
    """Scores, totals and notes of every metric in the table that can be measured.

    The opinions are those of whoever the `chosen` metric asks: no other metric of opinions is read from them.
    """
    scores: dict[str, tuple[float, ...]] = {}
    totals: dict[str, float] = {}
    notes: list[str] = []
    available = {
        "answers": with_answers,
        "losses": bool(scored.losses),
        "pairs": bool(scored.pairs),
        "judgements": bool(scored.wanted),
        "verdicts": bool(scored.verdicts),
        "ranks": bool(scored.ranks),
    }
    for name in METRICS.names():
        metric: Metric = METRICS.load(name)()
        anothers = metric.reads == "verdicts" and name != chosen
        if anothers or not available[metric.reads] or not metric.applies(scored):
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


def _latency(wanted: Wanted, chosen: Plan, source: Source, reports: Sequence[Report]) -> Latency:
    """Measured once for the same weights, rows and decoding."""
    if not generates(wanted.examples) or source.aligns:
        return Latency()
    for report in reports:
        if report.weights == source.weights.identity and report.first_token_s:
            return Latency(report.latency_s, report.first_token_s, report.token_s)
    return measure(source.load(), source.tokenizer, wanted.examples, chosen.decoding)


def _row_notes(rows: Sequence[Row]) -> list[str]:
    """What did not fit or did not end, counted."""
    said = [row.said for row in rows]
    counts = {
        "prompts were shortened to fit": sum(one.prompt_cut > 0 for one in said),
        "answers were still going on at the last token allowed": sum(not one.finished for one in said),
        "rows were shortened to fit before their loss was taken": sum(one.cut > 0 for one in said),
        "rows have no token to score": sum(one.tokens == 0 and one.nll is not None for one in said),
    }
    return [f"{count} of {len(said)} {what}" for what, count in counts.items() if count]
