"""Try after try: while the gate refuses and `protect: auto` has a firmer rung, the increment is learned again."""

import shutil
from collections.abc import Callable
from dataclasses import replace

from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.step import Step
from nacre.cycle.lineage import tasks_of
from nacre.data.rows import rows_path
from nacre.records import Recipe
from nacre.train.launch import JOBS
from nacre.train.protect.auto import Past, Rung, ladder
from nacre.train.protect.build import fitting


def rungs(step: Step) -> list[tuple[Recipe, Rung]]:
    """The recipes that `auto` may try on this increment, as many as `keep.tries` allows; none without `auto`."""
    keep, recipe, start = step.workspace.settings.keep, step.workspace.settings.recipe, step.parent
    past = Past(
        learned=start is not None,
        rows=any(file.rows for task in tasks_of(step.lineage).values() for file in task.train),
        share=keep.data,
        routed=start is not None and step.workspace.weights(start).routed,
    )
    found = fitting(ladder(recipe, past), recipe)[: keep.tries]
    # the first rung stands in the version's recipe as what was asked for
    return [
        (recipe.model_copy(update={"protect": rung.protect}) if place else recipe, rung)
        for place, rung in enumerate(found)
    ]


def try_again(step: Step, learn: Callable[[Step], Evolution]) -> Evolution:
    """Learn the increment; refused, learn it again on the next rung. Returns the try that lost least.

    Every try is a version of its own in the ledger, so a run that was killed goes on where it was.
    """
    best = found = learn(step)
    told: list[str] = []
    for recipe, rung in rungs(step)[1:]:
        if found.verdict.outcome != "fail":
            break
        told.append(f"version {found.version.number} was refused ({_lost(found)}); tried again: {rung.why}")
        weak = {task.task: max(0.0, task.drop) for task in found.verdict.tasks}
        found = learn(replace(step, recipe=recipe, weak=weak))
        best = max(best, found, key=_rank)
    if not told:
        return best
    if found.verdict.outcome == "fail":
        limit = step.workspace.settings.keep.tries
        left = "no firmer protection is left" if len(told) + 1 < limit else f"keep.tries is {limit}"
        told.append(f"version {found.version.number} was refused too ({_lost(found)}); {left}")
    if best is not found:
        told.append(f"version {best.version.number} lost least")
    return replace(best, notes={**best.notes, "protection": tuple(told)})


def _rank(found: Evolution) -> tuple[int, float]:
    """The better, the higher: what the gate said, then how much the worst task lost."""
    outcome = ("fail", "undecided", "pass").index(found.verdict.outcome)
    return outcome, -max((task.drop for task in found.verdict.tasks), default=0.0)


def _lost(found: Evolution) -> str:
    """The tasks that the gate saw lost."""
    return ", ".join(f"{task.task} -{task.drop:.3f}" for task in found.verdict.tasks if task.outcome == "fail")


def forget_rows(step: Step) -> None:
    """Delete the increment's rows where only a share of them may outlive it, unless a version keeps them.

    Also after a failure: another try reads them from the dataset again.
    """
    workspace, snapshot = step.workspace, step.snapshot
    if snapshot.kept is None or snapshot.kept == snapshot.train:
        return
    shutil.rmtree(step.run / JOBS, ignore_errors=True)
    used = [version.snapshot for version in workspace.ledger.versions()]
    others = {file.sha256 for one in used for file in (one.replayable, one.dev) if file}
    if snapshot.train.sha256 not in others:
        rows_path(workspace.memory, snapshot.train.sha256).unlink(missing_ok=True)
