"""The accuracy matrix of a lineage, from the reports in the ledger."""

from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.evaluate.matrix import Matrix
from nacre.records import Report, RowsFile


def lineage_matrix(workspace: Workspace, number: int) -> Matrix | None:
    """Scores of every version that led to `number` on every task it knows; None when no task has dev rows.

    Nothing is scored here: a cell that nobody has scored stays empty (`nacre.cycle.scoring.fill` fills them).
    """
    lineage = ancestry(workspace, number)
    scored = devs(tasks_of(lineage))
    if not scored:
        return None
    learned = {version.snapshot.task: place for place, version in reversed(list(enumerate(lineage)))}
    return Matrix(
        versions=tuple(f"v{version.number} +{version.snapshot.task}" for version in lineage),
        tasks=tuple(name for name, _ in scored),
        cells=tuple(_row(workspace, version.artifact, scored) for version in lineage),
        learned_at=tuple(learned[name] for name, _ in scored),
        base=_row(workspace, lineage[0].base_sha256, scored),
    )


def _row(workspace: Workspace, identity: str, scored: list[tuple[str, RowsFile]]) -> tuple[float | None, ...]:
    """The newest report of these weights on these very dev rows, for each task."""
    known: dict[tuple[str, str], Report] = {}
    for report in workspace.ledger.reports(weights=identity):
        known[report.task, report.dev] = report
    return tuple(known[name, dev.sha256].mean if (name, dev.sha256) in known else None for name, dev in scored)
