"""From a version back to the base model: which tasks it knows, and where their rows are."""

from collections.abc import Mapping
from dataclasses import dataclass

from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, without_forgotten
from nacre.records import Example, Lineage, RowsFile, Version


@dataclass(frozen=True)
class Task:
    """A skill that must be kept: all rows of it that may be used again, and the newest dev rows."""

    name: str
    train: tuple[RowsFile, ...]
    dev: RowsFile | None
    learned_in: int


def ancestry(workspace: Workspace, number: int | None) -> list[Version]:
    """The versions that led to `number`, oldest first, itself last; empty for None.

    Where rows were removed for good, they name the files of the rows that remain.
    """
    found: list[Version] = []
    instead = without_forgotten(workspace.memory)
    while number is not None:
        version = workspace.ledger.version(number)
        found.append(_as_kept(version, instead) if instead else version)
        number = version.parents[0] if version.parents else None
    return found[::-1]


def versions_as_kept(workspace: Workspace) -> list[Version]:
    """Every version, oldest first, with the rows files that are there now."""
    instead = without_forgotten(workspace.memory)
    return [_as_kept(version, instead) if instead else version for version in workspace.ledger.versions()]


def _as_kept(version: Version, instead: Mapping[str, RowsFile]) -> Version:
    """The version with the rows files that are there now; what it was trained on stays as it was."""

    def now(file: RowsFile | None) -> RowsFile | None:
        return file and instead.get(file.sha256, file)

    def held(file: RowsFile | None) -> RowsFile | None:
        found = now(file)
        return found if found and found.rows else None  # no row is left to judge by

    snapshot = version.snapshot
    kept = now(snapshot.replayable)
    inherited = [one.changed(train=now(one.train), dev=held(one.dev)) for one in version.inherited]
    changed = snapshot.changed(kept=None if kept == snapshot.train else kept, dev=held(snapshot.dev))
    return version.changed(snapshot=changed, inherited=tuple(inherited))


def tasks_of(lineage: list[Version]) -> dict[str, Task]:
    """Every task along a lineage, in order of arrival."""
    tasks: dict[str, Task] = {}
    for version in lineage:
        snapshot = version.snapshot
        learned = Lineage(task=snapshot.task, train=snapshot.replayable, dev=snapshot.dev)
        for one in (*version.inherited, learned):
            before = tasks.get(one.task)
            tasks[one.task] = Task(
                name=one.task,
                train=(*before.train, one.train) if before else (one.train,),
                dev=one.dev or (before.dev if before else None),
                learned_in=before.learned_in if before else version.number,
            )
    return tasks


def devs(tasks: dict[str, Task]) -> list[tuple[str, RowsFile]]:
    """The tasks that can be scored, with their dev rows."""
    return [(task.name, task.dev) for task in tasks.values() if task.dev is not None]


def rows_of(workspace: Workspace, task: Task) -> list[Example]:
    """The training rows of a task, each content once."""
    rows = {row.content_id: row for file in task.train for row in read_rows(workspace.memory, file)}
    return list(rows.values())


def as_lineage(tasks: dict[str, Task]) -> tuple[Lineage, ...]:
    """The same history for a manifest: one entry for each rows file."""
    return tuple(Lineage(task=task.name, train=file, dev=task.dev) for task in tasks.values() for file in task.train)
