"""Score the champion and a candidate on every task, and let the gate judge what the champion knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from nacre.base.errors import nearest
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.gate.rules import TaskPair, judge
from nacre.records import Report, Verdict, Version


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on the kept tasks, (before, after) of the tasks the champion does not know, and notes."""

    verdict: Verdict
    new_tasks: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]


def judge_version(workspace: Workspace, scorer: Scorer, made: Version, against: int | None) -> Judged:
    """Judge `made`, which need not be registered yet, against the champion `against` (None: the base model).

    Every task that the champion knows is kept, whether or not `made` descends from the champion.
    """
    champion_line = ancestry(workspace, against)
    known = tasks_of(champion_line)
    mine = tasks_of([*ancestry(workspace, made.parents[0] if made.parents else None), made])
    tasks = dict(devs({**known, **mine}))
    notes = [
        f"{name} has no dev rows: it cannot be proved that it is {'kept' if name in known else 'learned'}"
        for name in {**known, **mine}
        if name not in tasks
    ]
    notes += _unknown_settings(workspace, [*known, *mine])
    if not tasks:
        return Judged(judge([], workspace.settings.keep), {}, tuple(notes))
    champion = workspace.weights(champion_line[-1]) if champion_line else workspace.base
    old, new = (scorer.reports(weights, tasks.items()) for weights in (champion, workspace.weights(made)))
    pairs = [
        TaskPair(name, new[name].metric, _scores(old[name]), _scores(new[name])) for name in tasks if name in known
    ]
    fresh = {name: (old[name].mean, new[name].mean) for name in tasks if name not in known}
    return Judged(judge(pairs, workspace.settings.keep), fresh, (*notes, *grouped_notes(new)))


def grouped_notes(reports: Mapping[str, Report]) -> list[str]:
    """How each task was scored and what was cut; what holds for several tasks is said once."""
    found: dict[str, list[str]] = {}
    for name, report in reports.items():
        for note in (f"scored by {report.why}", *report.notes):
            found.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in found.items()]


def _scores(report: Report) -> tuple[float, ...]:
    return report.scores[report.metric]


def _unknown_settings(workspace: Workspace, tasks: list[str]) -> list[str]:
    """Notes on evaluation settings for tasks that nobody knows; the gate says so of its margins itself."""
    notes = []
    for name in sorted(set(workspace.settings.evaluate.tasks) - set(tasks)):
        close = nearest(name, tasks)
        hint = f"; did you mean '{close}'?" if close else ""
        notes.append(f"evaluate.tasks names '{name}', which is no task of this version: ignored{hint}")
    return notes
