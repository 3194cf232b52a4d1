"""The training that a step asks for: what a run needs beside the recipe, from the settings or from a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nacre.cycle.increment.step import Step
from nacre.cycle.lineage import Task, devs, rows_of
from nacre.data.rows import read_rows
from nacre.records import Example
from nacre.train.job import Job

Memory = Mapping[str, list[Example]]


@dataclass(frozen=True)
class Conditions:
    """What decides a training beside rows, start and recipe. A version's record has all of it."""

    limits: Mapping[str, float]
    share: float
    general: Path | None


def memory_of(step: Step, known: Mapping[str, Task]) -> tuple[dict[str, list[Example]], list[str]]:
    """The rows to replay, without those that are dev rows now, and a note where there were such rows."""
    memory = step.workspace.memory
    files = [*(rows for _, rows in devs(dict(known))), *([step.snapshot.dev] if step.snapshot.dev else [])]
    held_out = {row.content_id for file in files for row in read_rows(memory, file)}
    found = {name: rows_of(step.workspace, task) for name, task in known.items()}
    kept = {name: [row for row in rows if row.content_id not in held_out] for name, rows in found.items()}
    left_out = sum(map(len, found.values())) - sum(map(len, kept.values()))
    note = (
        f"{left_out} kept rows are dev rows now and are not replayed; earlier versions learned them, and score too well"
    )
    return {name: rows for name, rows in kept.items() if rows}, [note] if left_out else []


def job_of(step: Step, memory: Memory, conditions: Conditions, *, work: Path, shared: Path) -> Job:
    """The job of a step.

    Args:
        memory: rows of each past task, see `memory_of`.
        work: folder for checkpoints and the result; a run that was killed there goes on.
        shared: folder for files that outlive the run.
    """
    workspace = step.workspace
    return Job(
        start=workspace.weights(step.parent) if step.parent else workspace.base,
        recipe=step.recipe,
        new=read_rows(workspace.memory, step.snapshot.train),
        dev=read_rows(workspace.memory, step.snapshot.dev) if step.snapshot.dev else (),
        work=work,
        shared=shared,
        memory=memory,
        task=step.snapshot.task,
        base=workspace.base.identity,
        learned=bool(step.lineage),
        share=conditions.share,
        max_drop=conditions.limits,
        weak=step.weak,
        general=conditions.general,
    )
