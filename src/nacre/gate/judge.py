"""Judge a candidate by what happened to the kept tasks: non-inferiority with the user's margin."""

from collections.abc import Sequence
from dataclasses import dataclass

from nacre.base.errors import nearest
from nacre.gate.budget import LARGEST, SET_SOMEWHERE, WISHED, Ability, Margin, margin_for
from nacre.gate.methods import Asked, Finding, find
from nacre.gate.pair import MOST_GAINED, MOST_LOST, TaskPair
from nacre.records import Keep, RuleVerdict, TaskVerdict, Verdict
from nacre.records.gating import Gate
from nacre.records.verdict import Outcome
from nacre.stats.fixed import bonferroni, holm
from nacre.stats.paired import Paired, paired


@dataclass(frozen=True)
class _Found:
    pair: TaskPair
    scores: Paired
    margin: Margin
    finding: Finding


def judge(
    pairs: Sequence[TaskPair], keep: Keep, gate: Gate | None = None, rules: Sequence[RuleVerdict] = ()
) -> Verdict:
    """Non-inferiority of the candidate on every kept task, together with what further rules said.

    A task passes when its drop is shown to be below its margin: a drop of the margin passes with probability
    1 - `gate.power` at most. It fails when it does not pass and a drop is shown: over all tasks together, a candidate
    that lost nothing fails with probability 1 - `keep.confidence` at most (Holm or Bonferroni over the tasks).
    Otherwise it is undecided. Passing needs no such sharing: all tasks must pass, so the chance that the whole verdict
    passes wrongly is at most that of its worst task.

    Where the sequential test decided after a part of the rows, and the scored rows behind it point the other way as a
    whole (a pass although more than the margin is lost, a refusal although nothing is), the task is undecided, or
    refused if all rows show the drop. A refusal also gives way to a pass where the capital against the margin reaches
    its limit over all scored rows: its highest value holds by Ville's inequality too. Where only the interval of all
    rows lies below the margin, it is undecided. A pass with a `TaskPair.doubt` is
    undecided.

    Raises:
        ValueError: a pair's lengths differ, or a score lies outside [0, 1].
    """
    gate = gate or Gate()
    notes = _unknown_tasks(pairs, keep)
    if not pairs:
        notes.append("no earlier task has dev rows: there was nothing to judge")
    found = [one for pair in pairs if (one := _find(pair, keep, gate, len(pairs))) is not None]
    p_values = {one.pair.task: one.finding.p_value for one in found}
    level = 1 - keep.confidence
    if gate.correction == "none":
        refused = {name for name, value in p_values.items() if value <= level * (1 + 1e-12)}
    else:
        # a task with too few rows is a hypothesis too: it counts in the sharing
        known = {pair.task: 1.0 for pair in pairs} | p_values
        refused = (holm if gate.correction == "holm" else bonferroni)(known, level)
    judged = {one.pair.task: _verdict(one, one.pair.task in refused) for one in found}
    tasks = []
    for pair in pairs:
        verdict, note = judged.get(pair.task) or _too_few(pair, keep, gate)
        tasks.append(verdict)
        notes += [note] if note else []
    return Verdict(
        outcome=overall([*(task.outcome for task in tasks), *(rule.outcome for rule in rules)]),
        confidence=keep.confidence,
        power=gate.power,
        tasks=tuple(tasks),
        notes=tuple(notes),
        rules=tuple(rules),
    )


def decide(pair: TaskPair, keep: Keep, gate: Gate | None = None) -> TaskVerdict:
    """What `judge` says of one task alone."""
    return judge([pair], keep, gate).tasks[0]


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """Fail if any fails, else undecided if any is, else pass."""
    return "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"


def _find(pair: TaskPair, keep: Keep, gate: Gate, tasks: int) -> _Found | None:
    """What the test says of a task; None where there are too few rows for any."""
    if len(pair.before) < 2 and len(pair.before) == len(pair.after):
        return None
    try:
        scores = paired(pair.before, pair.after)
    except ValueError as error:
        raise ValueError(f"task {pair.task}, metric {pair.metric}: {error}") from error
    rows_of = pair.rows_of or scores.rows
    first = scores if pair.first is None else paired(pair.before[: pair.first], pair.after[: pair.first])
    margin = margin_for(pair.task, first, keep, gate, rows=rows_of, tasks=tasks)
    asked = Asked(
        scores=scores,
        differences=pair.differences(),
        margin=margin.value,
        confidence=keep.confidence,
        tasks=tasks,
        planned=rows_of,
    )
    return _Found(pair, scores, margin, find(asked, gate))


def _outcome(found: _Found, refused: bool) -> tuple[Outcome, int, str]:
    """The outcome of one task, the rows it rests on, and a sentence where one is due."""
    scores, finding, margin = found.scores, found.finding, found.margin.value
    used, shown = finding.rows_used, finding.shown_later and found.scores.drop <= found.margin.value
    outcome: Outcome = "pass" if finding.below else "fail" if refused else "undecided"
    behind = used < scores.rows
    if behind and outcome == "pass" and scores.drop > margin:
        outcome = "fail" if refused else "undecided"
        told = f"{found.pair.task}: {used} rows were enough to pass, but over all {scores.rows} the drop is"
        return outcome, scores.rows, f"{told} {scores.drop:.3f}: {outcome}"
    if behind and outcome == "fail" and shown:
        told = f"{found.pair.task}: {used} rows were enough to refuse it, but over all {scores.rows} the drop"
        return "pass", scores.rows, f"{told} of {scores.drop:.3f} is shown to be below the margin: pass"
    if behind and outcome == "fail" and scores.drop <= 0:
        told = f"{found.pair.task}: {used} rows were enough to refuse it, but over all {scores.rows} nothing is lost"
        return "undecided", scores.rows, f"{told}: undecided"
    if behind and outcome == "fail" and finding.interval[1] < margin:
        told = f"{found.pair.task}: {used} rows were enough to refuse it, but the interval of all {scores.rows} lies"
        return "undecided", scores.rows, f"{told} below the margin: undecided"
    if outcome == "undecided" and finding.more_rows is None:
        return outcome, used, f"{found.pair.task}: a margin of {margin:.2f} cannot be shown by more rows; allow more"
    return outcome, used, f"{found.pair.task}: {finding.note}" if finding.note else ""


def _verdict(found: _Found, refused: bool) -> tuple[TaskVerdict, str]:
    """The verdict on one task, and a sentence about it where one is due."""
    pair, scores, finding = found.pair, found.scores, found.finding
    outcome, used, note = _outcome(found, refused)
    more = (finding.more_rows or 0) if outcome == "undecided" else 0
    if outcome == "pass" and pair.doubt:
        outcome, note = "undecided", f"{pair.task}: the rows at hand would pass, but {pair.doubt}: undecided"
    elif pair.doubt:
        note = "; ".join(part for part in (note, f"{pair.task}: {pair.doubt}") if part)
    lost, gained = pair.flips()
    verdict = TaskVerdict(
        task=pair.task,
        metric=pair.metric,
        rows=scores.rows,
        before=scores.before,
        after=scores.after,
        drop=scores.drop,
        interval=finding.interval,
        margin=found.margin.value,
        margin_why=found.margin.why,
        test=finding.test,
        outcome=outcome,
        more_rows=more,
        rows_used=used,
        rows_of=pair.rows_of or scores.rows,
        e_value=finding.e_value,
        e_margin=finding.e_margin,
        p_value=finding.p_value,
        lost=len(lost),
        gained=len(gained),
        flips=(*lost[:MOST_LOST], *gained[:MOST_GAINED]),
    )
    return verdict, note


def _too_few(pair: TaskPair, keep: Keep, gate: Gate) -> tuple[TaskVerdict, str]:
    """No row or a single one: nothing can be said, which is not the same as nothing being wrong."""
    rows = len(pair.before)
    before, after = (sum(scores) / max(rows, 1) for scores in (pair.before, pair.after))
    chosen = keep.tasks.get(pair.task, keep.max_drop)
    margin = LARGEST if chosen == "auto" else chosen
    able = Ability(rows, 0.0, True, gate)
    needed = able.rows_for(margin) if margin > 0 else 0
    why = (
        f"auto: {LARGEST:.2f}, the most that auto allows; {WISHED:.2f} would take at least {able.rows_for(WISHED)} rows"
    )
    verdict = TaskVerdict(
        task=pair.task,
        metric=pair.metric,
        rows=rows,
        before=before,
        after=after,
        drop=before - after,
        interval=(-1.0, 1.0),
        margin=margin,
        margin_why=why if chosen == "auto" else SET_SOMEWHERE,
        test="none: fewer than two rows",
        outcome="undecided",
        more_rows=max(needed - rows, 0),
        rows_used=rows,
        rows_of=rows,
    )
    if pair.doubt:
        return verdict, f"{pair.task}: {pair.doubt}"
    count = "one dev row is" if rows else "no dev row is"
    return verdict, f"{pair.task}: {count} not enough to show anything; bring at least {max(needed, 2)}"


def _unknown_tasks(pairs: Sequence[TaskPair], keep: Keep) -> list[str]:
    """Notes on margins that were set for tasks nobody is keeping."""
    known = [pair.task for pair in pairs]
    notes = []
    for name in sorted(set(keep.tasks) - set(known)):
        close = nearest(name, known)
        hint = f"; did you mean '{close}'?" if close else ""
        notes.append(f"keep.tasks names '{name}', which is not a kept task: ignored{hint}")
    return notes
