"""Reports that another harness made: they stand in the ledger beside nacre's own, and the gate compares them too."""

from nacre.cycle.scores.general import IMPORTED
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.gate import TaskPair
from nacre.records import Report, Weights


def imported_reports(workspace: Workspace, weights: Weights) -> dict[str, Report]:
    """The newest report of each imported task on these weights, by its task in the ledger (`lm-eval:NAME`)."""
    found = workspace.ledger.reports(weights=weights.identity)
    return {report.task: report for report in found if report.task.startswith(IMPORTED)}


def imported_pairs(workspace: Workspace, old: Weights, new: Weights) -> tuple[list[TaskPair], list[str]]:
    """The imported tasks that both versions were scored on, on the same rows with the same prompts.

    Returns:
        The pairs, and a sentence for each task that cannot be compared: only one side has it, or the rows, the
        prompts or the metric differ. Nothing is said where neither side has any.
    """
    before, after = imported_reports(workspace, old), imported_reports(workspace, new)
    pairs, notes = [], []
    for task in dict.fromkeys((*before, *after)):
        one, other = before.get(task), after.get(task)
        if one is None or other is None:
            notes.append(f"{task}: scores of the {'new' if other is None else 'old'} version were never imported")
        elif one.dev != other.dev:
            notes.append(f"{task}: not compared, the two versions answered other rows or other prompts")
        elif other.metric not in one.scores:
            notes.append(f"{task}: not compared, the old version has no score by {other.metric}")
        else:
            pairs.append(_pair(workspace, one, other))
    return pairs, notes


def _pair(workspace: Workspace, old: Report, new: Report) -> TaskPair:
    rows = read_rows(workspace.memory, new.dev)
    return TaskPair(
        task=new.task,
        metric=new.metric,
        before=old.scores[new.metric],
        after=new.scores[new.metric],
        ids=[str(row.origin.extra.get("doc_hash", row.origin.line)) for row in rows],
        prompts=[row.prompt[-1].content for row in rows],
        answers_before=old.answers,
        answers_after=new.answers,
    )
