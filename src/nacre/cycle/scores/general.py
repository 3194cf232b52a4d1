"""General ability: what no increment teaches and every version should still be able to do (`evaluate.general`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nacre.base.errors import InputError, nearest
from nacre.cycle.scores.known import KnownReports
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.rows import read_rows, write_rows
from nacre.evaluate.history import GeneralScores
from nacre.records import Report, RowsFile

IMPORTED = "lm-eval:"  # tasks that were scored elsewhere, see nacre.cycle.scores.lm_eval

Measure = Literal["score", "perplexity"]


@dataclass(frozen=True)
class GeneralTask:
    """One entry of `evaluate.general`: rows that are scored here, or (without `rows`) a task scored elsewhere."""

    name: str
    measure: Measure
    rows: RowsFile | None


def general_tasks(workspace: Workspace, known: Mapping[str, RowsFile]) -> list[GeneralTask]:
    """What `evaluate.general` names: tasks of increments, files of rows, and imported tasks of other harnesses.

    Args:
        workspace: its settings name them; the rows of files are copied into its memory.
        known: dev rows of the tasks that increments brought.

    Raises:
        InputError: an entry is neither, or a row of a file cannot be used: scores must not leave rows out silently.
    """
    return [_task(workspace, entry, known) for entry in workspace.settings.evaluate.general]


def _task(workspace: Workspace, entry: str, known: Mapping[str, RowsFile]) -> GeneralTask:
    if entry.startswith(IMPORTED):
        return GeneralTask(entry, "score", None)
    if entry in known:
        return GeneralTask(entry, _measure(workspace, known[entry]), known[entry])
    path = workspace.root / entry
    if not path.is_file():
        close = nearest(entry, [*known, *(found.name for found in path.parent.glob("*.json*"))])
        hint = f"did you mean '{close}'? " if close else ""
        raise InputError(
            f"evaluate.general names '{entry}', which is neither a file nor a task with dev rows",
            where=str(path),
            fix=f"{hint}name a file of rows, one of the tasks {', '.join(known)}, or {IMPORTED}TASK",
        )
    stems = [Path(other).stem for other in workspace.settings.evaluate.general if not other.startswith(IMPORTED)]
    name = entry if path.stem in known or stems.count(path.stem) > 1 else path.stem
    rows = _file(path, name, workspace.memory)
    return GeneralTask(name, _measure(workspace, rows), rows)


def _file(path: Path, name: str, memory: Path) -> RowsFile:
    found = read_examples(path, task=name)
    if found.dropped:
        first = found.dropped[0]
        more = f", and {len(found.dropped) - 1} more rows cannot be used" if len(found.dropped) > 1 else ""
        raise InputError(f"{first.reason}{more}", where=f"{path}, line {first.line}", fix=first.remedy)
    if not found.examples:
        raise InputError("evaluate.general names a file without rows", where=str(path), fix="put rows into it")
    return write_rows(memory, found.examples)


def _measure(workspace: Workspace, rows: RowsFile) -> Measure:
    """Plain text is read, everything else is answered."""
    return "perplexity" if all(row.kind == "text" for row in read_rows(workspace.memory, rows)) else "score"


def general_scores(
    known: KnownReports, tasks: Sequence[GeneralTask], base: str, weights: Sequence[str]
) -> list[GeneralScores]:
    """What the ledger has of these tasks: of the base model and of each of the weights, by identity."""
    return [_scores(known, task, base, weights) for task in tasks]


def _scores(known: KnownReports, task: GeneralTask, base: str, weights: Sequence[str]) -> GeneralScores:
    if task.rows is None:
        # there is no other anchor than what the base model was last asked
        anchor = known.newest(base, task.name)
        imported = [known.imported(identity, task.name, anchor) for identity in weights]
        values = [_mean(report, anchor) for report in (anchor, *imported)]
    else:
        values = [_value(known.find(identity, task.name, task.rows), task.measure) for identity in (base, *weights)]
    return GeneralScores(name=task.name, measure=task.measure, base=values[0], versions=tuple(values[1:]))


def _mean(report: Report | None, anchor: Report | None) -> float | None:
    """By the anchor's metric."""
    if report is None or anchor is None:
        return None
    return sum(report.scores[anchor.metric]) / report.rows


def _value(report: Report | None, measure: Measure) -> float | None:
    if report is None:
        return None
    return report.totals.get("perplexity") if measure == "perplexity" else report.mean
