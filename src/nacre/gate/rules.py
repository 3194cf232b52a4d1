"""Rules that judge a candidate by what happened to the kept tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

from nacre.base.errors import nearest
from nacre.gate.budget import LARGEST, WISHED, Margin, margin_for
from nacre.records import Keep, TaskVerdict, Verdict
from nacre.records.verdict import Outcome
from nacre.stats.paired import Paired, paired
from nacre.stats.planning import rows_to_decide, rows_to_show


@dataclass(frozen=True)
class TaskPair:
    """Scores in [0, 1] of one kept task, row by row: the champion's and the candidate's, same rows, same order."""

    task: str
    metric: str
    before: Sequence[float]
    after: Sequence[float]


def judge(pairs: Sequence[TaskPair], keep: Keep) -> Verdict:
    """Non-inferiority of the candidate on every kept task.

    A task passes when the one-sided upper bound of its drop, at `keep.confidence`, is no larger than
    its margin. It fails when it does not pass and a drop is shown: the lower bound is above nought, at
    a level shared out over the tasks (Bonferroni), so that many tasks do not raise the chance of a
    false refusal. Otherwise it is undecided. Passing needs no such share: all tasks must pass, so the
    chance that the whole verdict passes wrongly is at most that of its worst task.

    Raises:
        ValueError: a pair's lengths differ, or a score lies outside [0, 1].
    """
    notes = _unknown_tasks(pairs, keep)
    if not pairs:
        notes.append("no earlier task has dev rows: there was nothing to judge")
    fail_level = 1 - (1 - keep.confidence) / max(len(pairs), 1)
    tasks = []
    for pair in pairs:
        verdict, note = _judge_task(pair, keep, fail_level)
        tasks.append(verdict)
        notes += [note] if note else []
    return Verdict(outcome=_overall(tasks), confidence=keep.confidence, tasks=tuple(tasks), notes=tuple(notes))


def _judge_task(pair: TaskPair, keep: Keep, fail_level: float) -> tuple[TaskVerdict, str]:
    """The verdict on one task, and a sentence about it where one is due."""
    if len(pair.before) < 2 and len(pair.before) == len(pair.after):
        return _too_few(pair, keep)
    try:
        scores = paired(pair.before, pair.after)
    except ValueError as error:
        raise ValueError(f"task {pair.task}, metric {pair.metric}: {error}") from error
    margin = margin_for(pair.task, scores, keep)
    upper, lower = scores.upper(keep.confidence), scores.lower(fail_level)
    outcome: Outcome = "pass" if upper <= margin.value else "fail" if lower > 0 else "undecided"
    more, note = _missing(pair.task, scores, margin, keep.confidence, fail_level) if outcome == "undecided" else (0, "")
    two_sided = (1 + keep.confidence) / 2
    verdict = TaskVerdict(
        task=pair.task,
        metric=pair.metric,
        rows=scores.rows,
        before=scores.before,
        after=scores.after,
        drop=scores.drop,
        interval=(scores.lower(two_sided), scores.upper(two_sided)),
        margin=margin.value,
        margin_why=margin.why,
        test=f"{scores.test}; one-sided {keep.confidence:.0%} upper bound of the drop {upper:.4f}",
        outcome=outcome,
        more_rows=more,
    )
    return verdict, note


def _missing(task: str, scores: Paired, margin: Margin, level: float, fail_level: float) -> tuple[int, str]:
    """How many more rows an undecided task would take, and a note where rows would not help."""
    needed = rows_to_decide(scores.drop, scores.variance, margin.value, level=level, fail_level=fail_level)
    if needed is None:
        return 0, f"{task}: a margin of {margin.value:.2f} cannot be shown by more rows; allow a larger drop"
    return max(needed - scores.rows, 1), ""


def _too_few(pair: TaskPair, keep: Keep) -> tuple[TaskVerdict, str]:
    """No row or a single one: nothing can be said, which is not the same as nothing being wrong."""
    rows = len(pair.before)
    before, after = (sum(scores) / max(rows, 1) for scores in (pair.before, pair.after))
    chosen = keep.tasks.get(pair.task, keep.max_drop)
    margin = LARGEST if chosen == "auto" else chosen
    needed = rows_to_show(margin, 0.0, level=keep.confidence, binary=True) if margin > 0 else 0
    wished = rows_to_show(WISHED, 0.0, level=keep.confidence, binary=True)
    why = f"auto: {LARGEST:.2f}, the most that auto allows; {WISHED:.2f} would take at least {wished} rows"
    verdict = TaskVerdict(
        task=pair.task,
        metric=pair.metric,
        rows=rows,
        before=before,
        after=after,
        drop=before - after,
        interval=(-1.0, 1.0),
        margin=margin,
        margin_why=why if chosen == "auto" else "set in keep",
        test="none: fewer than two rows",
        outcome="undecided",
        more_rows=max(needed - rows, 0),
    )
    count = "one dev row is" if rows else "no dev row is"
    return verdict, f"{pair.task}: {count} not enough to show anything; bring at least {max(needed, 2)}"


def _overall(tasks: Sequence[TaskVerdict]) -> Outcome:
    """Fail if any task fails, else undecided if any is, else pass."""
    found = {task.outcome for task in tasks}
    return "fail" if "fail" in found else "undecided" if "undecided" in found else "pass"


def _unknown_tasks(pairs: Sequence[TaskPair], keep: Keep) -> list[str]:
    """Notes on margins that were set for tasks nobody is keeping."""
    known = [pair.task for pair in pairs]
    notes = []
    for name in sorted(set(keep.tasks) - set(known)):
        close = nearest(name, known)
        hint = f"; did you mean '{close}'?" if close else ""
        notes.append(f"keep.tasks names '{name}', which is not a kept task: ignored{hint}")
    return notes
