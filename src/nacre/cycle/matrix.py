"""The accuracy matrix of a lineage, from the reports in the ledger."""

from nacre.cycle.lineage import Task, ancestry, tasks_of
from nacre.cycle.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.evaluate.matrix import Matrix
from nacre.records import Report, RowsFile


def devs(tasks: dict[str, Task]) -> list[tuple[str, RowsFile]]:
    """The tasks that can be scored, with their dev rows."""
    return [(task.name, task.dev) for task in tasks.values() if task.dev is not None]


def lineage_matrix(workspace: Workspace, number: int, *, fill: bool = False) -> Matrix | None:
    """Scores of every version that led to `number` on every task it knows.

    Args:
        workspace: where the versions are.
        number: the version at the end of the lineage.
        fill: score what has not been scored yet; otherwise such cells stay empty.

    Returns:
        None when no task of the lineage has dev rows.
    """
    lineage = ancestry(workspace, number)
    scored = devs(tasks_of(lineage))
    if not scored:
        return None
    if fill:
        scorer = Scorer(workspace)
        for weights in (workspace.base, *(workspace.weights(version) for version in lineage)):
            scorer.reports(weights, scored)
    rows = [_row(workspace, version.artifact, scored) for version in lineage]
    learned = {version.snapshot.task: place for place, version in reversed(list(enumerate(lineage)))}
    return Matrix(
        versions=tuple(f"v{version.number} +{version.snapshot.task}" for version in lineage),
        tasks=tuple(name for name, _ in scored),
        cells=tuple(rows),
        learned_at=tuple(learned[name] for name, _ in scored),
        base=_row(workspace, workspace.base.identity, scored),
    )


def _row(workspace: Workspace, identity: str, scored: list[tuple[str, RowsFile]]) -> tuple[float | None, ...]:
    """The newest report of these weights on these very dev rows, for each task."""
    known: dict[tuple[str, str], Report] = {}
    for report in workspace.ledger.reports(weights=identity):
        known[report.task, report.dev] = report
    return tuple(known[name, dev.sha256].mean if (name, dev.sha256) in known else None for name, dev in scored)
