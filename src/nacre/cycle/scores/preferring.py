"""Which of two versions' answers the judge prefers, task by task."""

from dataclasses import dataclass

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import content_hash
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.judge.verdicts import Verdicts, judge_language
from nacre.evaluate.plan import generates
from nacre.records import Report, RowsFile, Weights
from nacre.records.report import ASKED, part, report_key
from nacre.stats.agreement import WinRate, win_rate

METRIC = "judge_pairwise"


@dataclass(frozen=True)
class Preferred:
    """What the judge said of one task: both versions' reports, and how the new one fares."""

    old: Report
    new: Report
    rate: WinRate


def prefer(workspace: Workspace, old: int, new: int) -> tuple[dict[str, Preferred], list[str]]:
    """Ask the judge about both versions' answers to every task of the new one, each pair in both orders.

    What was asked before is read from the ledger. The reports hold the rows with a verdict, stand beside the usual
    ones, and can be compared by the gate.

    Args:
        workspace: where versions and judge are.
        old, new: version numbers; 0 is the base model.

    Returns:
        What was said, by task, and sentences on the tasks that were left out.

    Raises:
        InputError: no judge is set, a version is not known, or no task has answers to compare.
        NacreError: the judge fails, or none of a task's verdicts can be read.
    """
    if old == new:
        raise InputError(f"both are version {new}", where="evaluate --against", fix="name two different versions")
    line = ancestry(workspace, new or None)
    tasks, scorer = devs(tasks_of(line)) if line else [], Scorer(workspace)
    scorer.asking(f"version {new}")  # a missing judge is said before anything is answered
    one, other = (workspace.weights(workspace.ledger.version(each)) if each else workspace.base for each in (old, new))
    found, notes = {}, []
    for task, dev in tasks:
        if generates(read_rows(workspace.memory, dev)):
            found[task] = _task(workspace, scorer, (one, other), task, dev)
        else:
            notes.append(f"{task}: no answers are generated, so there is nothing to compare")
    if not found:
        fix = "compare versions that know a task with answers"
        raise InputError("no task has answers to compare", where=f"version {new}", fix=fix)
    return found, notes


def _task(
    workspace: Workspace, scorer: Scorer, weights: tuple[Weights, Weights], task: str, dev: RowsFile
) -> Preferred:
    examples = read_rows(workspace.memory, dev)
    usual = [scorer.reports(each, [(task, dev)])[task] for each in weights]
    asking = scorer.asking(task)
    language = judge_language(asking.settings, [example.answer for example in examples])
    judged = content_hash([asking.settings.digest, language, *(each.identity for each in weights)])
    keys = [
        report_key(report.weights, report.dev, METRIC, report.decoding, aside=ASKED, judged=judged) for report in usual
    ]
    known = [report for key in keys if (report := workspace.ledger.get_report(key)) is not None]
    if len(known) < len(usual):
        said = [report.said_at for report in usual]
        both = {place: (said[0][place], said[1][place]) for place in said[0] if place in said[1]}
        verdicts = asking.preferences(dict(enumerate(examples)), both, language)
        aside = ASKED if len(verdicts.scores) == dev.rows else part(sorted(verdicts.scores))  # the rest is asked again
        known = [
            _report(report, verdicts, judged, new=place == 1).changed(aside=aside) for place, report in enumerate(usual)
        ]
        for report in known:
            workspace.ledger.put_report(report)
    return Preferred(known[0], known[1], win_rate(known[1].scores[METRIC]))


def _report(usual: Report, verdicts: Verdicts, judged: str, *, new: bool) -> Report:
    """The verdicts as the report of one of the two versions.

    Raises:
        NacreError: there are none.
    """
    at = tuple(sorted(verdicts.scores))
    if not at:
        what = f"none of the pairs got a verdict: {'; '.join(verdicts.notes)}"
        fix = "look at what the judge said, and change evaluate.judge (pairwise_prompt, model or max_tokens)"
        raise NacreError(what, where=f"evaluate.judge, task {usual.task}", fix=fix)
    scores = tuple(verdicts.scores[place] if new else 1 - verdicts.scores[place] for place in at)
    return Report(
        weights=usual.weights,
        task=usual.task,
        dev=usual.dev,
        rows=len(at),
        metric=METRIC,
        why=f"{METRIC}: asked for",
        decoding=usual.decoding,
        scores={METRIC: scores},
        totals={},
        answers=tuple(usual.said_at[place] for place in at),
        at=at,
        notes=verdicts.notes,
        aside=ASKED,
        judged=judged,
    )
