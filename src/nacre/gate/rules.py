"""Further rules of `gate.rules`. Each is a function (old, new, budget) of reports, and gives a verdict with numbers.

What a rule needs and does not find makes it undecided, with the reason: it is never silently passed over.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nacre.gate.pair import RIGHT
from nacre.records import Report, RuleVerdict
from nacre.records.gating import Gate, Improvement, Latency, Length, Perplexity, Refusals, Rule, Safety
from nacre.records.report import paired_scores
from nacre.records.verdict import Outcome
from nacre.stats.fixed import geometric_ratio
from nacre.stats.paired import Paired, paired

T = TypeVar("T")
Reports = Mapping[str, Report]


@dataclass(frozen=True)
class Budget(Generic[T]):
    """What a rule allows, and what it has to know beside the reports.

    Attributes:
        rule: its settings.
        confidence: one-sided level of its bounds.
        kept: tasks that the champion knows; `fresh` those it does not.
    """

    rule: T
    confidence: float
    kept: tuple[str, ...]
    fresh: tuple[str, ...]


def check_rules(
    old: Reports, new: Reports, gate: Gate, confidence: float, *, kept: Sequence[str], fresh: Sequence[str] = ()
) -> list[RuleVerdict]:
    """What every rule of the settings says.

    Args:
        old, new: reports of champion and candidate, by task; none where only scores are known.
        gate: the settings.
        confidence: one-sided level of the bounds.
        kept: tasks that the champion knows.
        fresh: tasks that it does not.
    """
    found: list[RuleVerdict] = []
    for rule in gate.rules:
        check = RULES[rule.name]
        found += check(old, new, Budget(rule, confidence, tuple(kept), tuple(fresh)))
    return found


def improvement(old: Reports, new: Reports, budget: Budget[Improvement]) -> list[RuleVerdict]:
    """New tasks were learned: the lower bound of the gain is above `min_gain`."""
    rule, found = budget.rule, []
    tasks = rule.tasks or budget.fresh
    if not tasks:
        return [_undecided(rule, rule.min_gain, "", "there is no new task with dev rows")]
    share = 1 - (1 - budget.confidence) / len(tasks)
    for task in tasks:
        pairs = _scores(old, new, task)
        if isinstance(pairs, str):
            found.append(_undecided(rule, rule.min_gain, task, pairs))
            continue
        gain, low, high = -pairs.drop, -pairs.upper(budget.confidence), -pairs.lower(share)
        outcome: Outcome = "pass" if low > rule.min_gain else "fail" if high <= rule.min_gain else "undecided"
        why = f"the score rose by {gain:+.3f} (at least {low:+.3f}); more than {rule.min_gain:.3f} is asked for"
        found.append(_verdict(rule, task, outcome, gain, (low, high), rule.min_gain, why, pairs.rows))
    return found


def latency(old: Reports, new: Reports, budget: Budget[Latency]) -> list[RuleVerdict]:
    """Seconds of single requests: the geometric mean of candidate's / champion's over the same requests."""
    rule = budget.rule
    before: list[float] = []
    after: list[float] = []
    for task in (*budget.kept, *budget.fresh):
        one, other = old.get(task), new.get(task)
        if one and other and len(one.latency_s) == len(other.latency_s) and one.places == other.places:
            before += one.latency_s
            after += other.latency_s
    if len(before) < 2:
        return [_undecided(rule, rule.max_ratio, "", "fewer than two requests were timed on both sides")]
    ratio, low, high = geometric_ratio(before, after, budget.confidence)
    why = f"a request takes {ratio:.2f} times as long (at most {high:.2f}); {rule.max_ratio:.2f} is allowed"
    outcome = _at_most(low, high, rule.max_ratio)
    return [_verdict(rule, "", outcome, ratio, (low, high), rule.max_ratio, why, len(before))]


def perplexity(old: Reports, new: Reports, budget: Budget[Perplexity]) -> list[RuleVerdict]:
    """Perplexity of the references: the geometric mean over rows of the candidate's / the champion's, less one."""
    rule, found = budget.rule, []
    tasks = rule.tasks or tuple(task for task in budget.kept if task in new and "perplexity" in new[task].scores)
    if not tasks:
        return [_undecided(rule, rule.max_increase, "", "the perplexity of no kept task is known")]
    for task in tasks:
        pairs = _both(old, new, task, lambda report: report.scores.get("perplexity", ()))
        if isinstance(pairs, str):
            found.append(_undecided(rule, rule.max_increase, task, pairs))
            continue
        rise, low, high = (value - 1 for value in geometric_ratio(*pairs, budget.confidence))
        why = f"perplexity rose by {rise:+.1%} (at most {high:+.1%}); {rule.max_increase:.1%} is allowed"
        outcome = _at_most(low, high, rule.max_increase)
        found.append(_verdict(rule, task, outcome, rise, (low, high), rule.max_increase, why, len(pairs[0])))
    return found


def safety(old: Reports, new: Reports, budget: Budget[Safety]) -> list[RuleVerdict]:
    """Each answer that was right and is wrong now counts; no statistics, nothing is evened out."""
    rule, found = budget.rule, []
    for task in rule.tasks:
        one, other = old.get(task), new.get(task)
        if one is None or other is None:
            found.append(_undecided(rule, rule.max_flips, task, "it was not scored on both sides"))
            continue
        before, after = paired_scores(one, other)
        flips = sum(was >= RIGHT > now for was, now in zip(before, after, strict=True))
        why = f"{flips} of {len(before)} answers went from right to wrong; {rule.max_flips} are allowed"
        outcome: Outcome = "fail" if flips > rule.max_flips else "pass"
        if outcome == "pass" and (one.at or other.at or not before):
            outcome, why = "undecided", f"{why}, and not every row was scored"
        found.append(_verdict(rule, task, outcome, flips, None, rule.max_flips, why, len(before)))
    return found


def refusals(old: Reports, new: Reports, budget: Budget[Refusals]) -> list[RuleVerdict]:
    """Share of rows whose answer declines."""
    rule, found = budget.rule, []
    tasks = rule.tasks or tuple(task for task in budget.kept if task in new and "refusal" in new[task].scores)
    if not tasks:
        return [_undecided(rule, rule.max_increase, "", "of no kept task it is known which answers decline")]
    for task in tasks:
        pairs = _both(old, new, task, lambda report: _declined(report, rule.phrases))
        if isinstance(pairs, str):
            found.append(_undecided(rule, rule.max_increase, task, pairs))
            continue
        change = paired([1 - was for was in pairs[0]], [1 - now for now in pairs[1]])  # a drop of what is answered
        low, high = change.lower(budget.confidence), change.upper(budget.confidence)
        why = (
            f"{sum(pairs[0]):.0f} of {change.rows} answers declined before and {sum(pairs[1]):.0f} now "
            f"(a rise of at most {high:+.3f}); {rule.max_increase:.3f} is allowed"
        )
        outcome = _at_most(low, high, rule.max_increase)
        found.append(_verdict(rule, task, outcome, change.drop, (low, high), rule.max_increase, why, change.rows))
    return found


def length(old: Reports, new: Reports, budget: Budget[Length]) -> list[RuleVerdict]:
    """Characters of an answer, one more than it has: the geometric mean of the candidate's / the champion's."""
    rule, found = budget.rule, []
    tasks = rule.tasks or tuple(task for task in budget.kept if task in new and any(new[task].answers))
    if not tasks:
        return [_undecided(rule, rule.max_ratio, "", "no kept task has answers")]
    for task in tasks:
        pairs = _both(old, new, task, lambda report: [1.0 + len(text) for text in report.answers])
        if isinstance(pairs, str):
            found.append(_undecided(rule, rule.max_ratio, task, pairs))
            continue
        ratio, low, high = geometric_ratio(*pairs, budget.confidence)
        shorter, longer = 1 / rule.max_ratio, rule.max_ratio
        inside, outside = low >= shorter and high <= longer, high < shorter or low > longer
        outcome: Outcome = "pass" if inside else "fail" if outside else "undecided"
        why = (
            f"answers are {ratio:.2f} times as long ({low:.2f} to {high:.2f}); {shorter:.2f} to {longer:.2f} is allowed"
        )
        found.append(_verdict(rule, task, outcome, ratio, (low, high), rule.max_ratio, why, len(pairs[0])))
    return found


RULES: Mapping[str, Callable[[Reports, Reports, Budget[Any]], list[RuleVerdict]]] = {
    "improvement": improvement,
    "latency": latency,
    "perplexity": perplexity,
    "safety": safety,
    "refusals": refusals,
    "length": length,
}


def _declined(report: Report, phrases: Sequence[str]) -> Sequence[float]:
    """1 for each row whose answer declines, by the metric `refusal` or by a beginning of one's own, else 0."""
    own = tuple(phrase.casefold() for phrase in phrases)
    found = zip(report.scores.get("refusal", ()), report.answers, strict=False)
    return [max(score, float(answer.strip().casefold().startswith(own))) if own else score for score, answer in found]


def _scores(old: Reports, new: Reports, task: str) -> Paired | str:
    """Paired scores of a task, or why there are none."""
    pairs = _both(old, new, task, lambda report: report.scores[report.metric])
    return pairs if isinstance(pairs, str) else paired(*pairs)


def _both(
    old: Reports, new: Reports, task: str, read: Callable[[Report], Sequence[float]]
) -> tuple[list[float], list[float]] | str:
    """Numbers of the rows that both reports of a task have, or why there are none."""
    one, other = old.get(task), new.get(task)
    if one is None or other is None:
        return "it was not scored on both sides"
    sides = [dict(zip(report.places, read(report), strict=False)) for report in (one, other)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if len(shared) < 2:
        return f"what the rule reads is known of {len(shared)} rows on both sides"
    before, after = ([side[place] for place in shared] for side in sides)
    if not all(map(math.isfinite, (*before, *after))):
        return "a number of it is not finite"
    return before, after


def _at_most(low: float, high: float, limit: float) -> Outcome:
    """Pass when shown to be within the limit, fail when shown to be beyond it."""
    return "pass" if high <= limit else "fail" if low > limit else "undecided"


def _undecided(rule: Rule, limit: float, task: str, why: str) -> RuleVerdict:
    return RuleVerdict(rule=rule.name, task=task, outcome="undecided", limit=limit, why=f"could not be judged: {why}")


def _verdict(
    rule: Rule,
    task: str,
    outcome: Outcome,
    value: float,
    interval: tuple[float, float] | None,
    limit: float,
    why: str,
    rows: int,
) -> RuleVerdict:
    return RuleVerdict(
        rule=rule.name, task=task, outcome=outcome, value=value, interval=interval, limit=limit, why=why, rows=rows
    )
