"""One increment, from its data to a judged version: check → train → score → gate → register → promote."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nacre import __version__
from nacre.base.errors import InputError
from nacre.base.files import atomic_write, file_lock
from nacre.base.hashing import sha256_file
from nacre.cycle.environment import environment_of
from nacre.cycle.increment.dev_all import keep_dev_all
from nacre.cycle.increment.energy import Meter
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.job import Conditions, Memory, job_of, memory_of
from nacre.cycle.increment.progressive import first_part
from nacre.cycle.increment.settle import Decision, in_use, settle, waits
from nacre.cycle.increment.step import Promote, Step
from nacre.cycle.increment.tries import forget_rows, rungs, try_again
from nacre.cycle.lineage import Task, ancestry, as_lineage, devs, tasks_of
from nacre.cycle.reports.report import keep_report_or_say
from nacre.cycle.rows.stage import staged
from nacre.cycle.scores.gating import power_notes
from nacre.cycle.scores.judging import Judged, judge_version
from nacre.cycle.scores.matrix import lineage_matrix
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.snapshot import keep_share, take_snapshot
from nacre.gate.budget import limits
from nacre.gate.report import rule_line
from nacre.model.load import pick_device
from nacre.records import Lineage, Manifest, RowsFile, Snapshot, Version
from nacre.records.manifest import MANIFEST
from nacre.registry.slots import Slot
from nacre.train.run import Job, Trained, train

LITTLE_LEARNED = 0.02  # of a new task's score

__all__ = ["Evolution", "evolve"]


def evolve(
    workspace: Workspace,
    name: str,
    *,
    promote: Promote | None = None,
    parent: int | None = None,
    actor: str = "evolve",
    tell: Callable[[str], None] = lambda _: None,
    rows: int | None = None,
    terms: tuple[str, ...] = (),
) -> Evolution:
    """Learn increment `name` without losing what the champion knows.

    Args:
        workspace: where the champion, its rows and the settings are.
        name: a folder of the dataset folder, or a name in its `dataset_info.json`; several with commas.
        promote: make the version champion when the gate passes it, or never; default: as `nacre.yaml` says.
        parent: train from this version instead of the champion; 0 is the base model.
        actor: who the history says did it.
        tell: is called with each sentence that is worth knowing before the training has begun.
        rows: learn so many of the train rows only, of each class in proportion; default: all.
        terms: texts that become tokens of their own before the training.

    Raises:
        InputError: the data, the model or a setting is wrong; nothing was trained.
        NacreError: disk full, a corrupted artifact, or another run in this workspace.
    """
    workspace = staged(workspace, name)
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        workspace.store.sweep()
        champion, lineage = line_to_grow(workspace, name, parent)
        settings = workspace.settings
        snapshot = increment_rows(workspace, name, lineage, champion)
        step = Step(
            workspace=workspace,
            snapshot=keep_share(snapshot, settings.keep.data, workspace.memory),
            lineage=lineage,
            champion=champion,
            promote=promote or settings.gate.promote,
            actor=actor,
            recipe=settings.recipe.model_copy(update={"terms": terms}),
            tell=tell,
        )
        whole = step
        try:
            known = _known_already(step)
            if rows is not None and known is None:
                part = first_part(snapshot, rows, workspace.memory)
                step = replace(step, snapshot=keep_share(part, settings.keep.data, workspace.memory))
                known = _known_already(step)
            found = known or try_again(step, lambda one: _taken_up(one) or learn(one))
            return keep_dev_all(workspace, found)
        finally:
            forget_rows(whole)
            forget_rows(step)


def increment_rows(workspace: Workspace, name: str, lineage: list[Version], champion: Slot | None) -> Snapshot:
    """The rows of an increment, read, checked and kept as the settings say; no dev row of earlier ones is among them.

    Raises:
        InputError: see `take_snapshot`.
    """
    settings = workspace.settings
    return take_snapshot(
        name,
        workspace.dataset_dir,
        workspace.memory,
        drop_budget=settings.data.drop_budget,
        dev_share=settings.data.dev_share,
        history=_dev_rows(workspace, lineage, champion),
        stage=settings.train.stage,
    )


def line_to_grow(workspace: Workspace, name: str, parent: int | None) -> tuple[Slot | None, list[Version]]:
    """The champion, and the versions that led to what increment `name` is trained from: that one last.

    Args:
        workspace: where they are.
        name: of the increment.
        parent: number of the version to train from; 0: the base model; default: the champion.

    Raises:
        InputError: the model is another one now, or what is to be learned does not go with the line.
    """
    champion = workspace.ledger.slot("champion")
    start = parent if parent is not None else champion.version if champion else 0
    lineage = ancestry(workspace, start or None)
    for version in lineage[-1:]:
        workspace.check_base(version)
    _check_line(workspace, lineage, champion, name)
    return champion, lineage


def _check_line(workspace: Workspace, lineage: list[Version], champion: Slot | None, name: str) -> None:
    """Refuse a reward model on a line of versions that answer, the other way round, and a start that is not one model.

    Raises:
        InputError: the gate would hold numbers of one kind against numbers of another; or see `_check_whole`.
    """
    _check_whole(lineage, name)
    rewards = workspace.settings.train.stage == "rm"
    for version in [*lineage, *ancestry(workspace, champion.version if champion else None)]:
        if (version.recipe.train.stage == "rm") != rewards:
            what = "answers and a reward model does not" if rewards else "is a reward model, which does not answer"
            raise InputError(
                f"version {version.number} {what}, so the tasks it knows cannot be judged on what would be trained",
                where=f"train.stage: {workspace.settings.train.stage}",
                fix="use a workspace of its own for the reward model, or train it from folder to folder: nacre train",
            )


def _check_whole(lineage: list[Version], name: str) -> None:
    """Refuse to train from a version that was rounded, or that is several adapters together.

    Raises:
        InputError: says what to train from instead.
    """
    for version in lineage[-1:]:
        if version.combined and version.combined.how.by != "merge":
            best = "NUMBER" if version.origin else version.combined.members[0].version
            raise InputError(
                f"version {version.number} is several adapters that answer together, which cannot be trained as one",
                where=f"version {version.number}",
                fix=f"nacre evolve {name} --from {best}, one of them, or from what nacre combine --by merge makes",
            )
        how = version.compressed.how.to if version.compressed else ""
        if how in ("int8", "int4"):
            above = version.parents[0] if version.parents else "the version it was made of"
            raise InputError(
                f"version {version.number} is held in {how}, and rounded weights cannot take small steps",
                where=f"version {version.number}",
                fix=f"nacre evolve {name} --from {above}, and compress what comes of that",
            )


def _dev_rows(workspace: Workspace, lineage: list[Version], champion: Slot | None) -> tuple[RowsFile, ...]:
    """Dev rows that must not be trained on: those of the line trained on, and those the champion is judged by."""
    known = {**tasks_of(ancestry(workspace, champion.version if champion else None)), **tasks_of(lineage)}
    return tuple(rows for _, rows in devs(known))


def _known_already(step: Step) -> Evolution | None:
    """The version on the line that learned the very same rows, if there is one: then there is nothing to do."""
    snapshot = step.snapshot
    version = next((one for one in step.lineage if _same_rows(one.snapshot, snapshot)), None)
    if version is None:
        return None
    notes = [f"nothing to do: version {version.number} has learned exactly these rows"]
    if version.recipe not in (step.recipe, *(recipe for recipe, _ in rungs(step))):
        start = version.parents[0] if version.parents else 0
        notes.append(f"it was trained with other settings; --from {start} trains these rows anew with those of now")
    if version.snapshot.kept != snapshot.kept:
        rows = version.snapshot.replayable.rows
        notes.append(f"keep.data was another then: {rows} of {snapshot.train.rows} train rows are kept, as it said")
    return _as_it_was(step, version, notes)


def _same_rows(one: Snapshot, other: Snapshot) -> bool:
    return one.task == other.task and one.data_hash == other.data_hash


def _taken_up(step: Step) -> Evolution | None:
    """A version off the line that was trained in exactly this way: judged anew, which costs little, not trained.

    It was refused, held or rolled back, or the command that made it was killed before it could promote it.
    """
    workspace = step.workspace
    version = workspace.ledger.same_training(
        step.snapshot.data_hash,
        step.parent.number if step.parent else None,
        step.recipe,
        base_sha256=workspace.base.identity,
    )
    if version is None or (version.snapshot.task, version.snapshot.kept) != (step.snapshot.task, step.snapshot.kept):
        return None
    number = version.number
    notes = [f"nothing to train: version {number} was trained on exactly these rows in exactly this way"]
    if any(event.kind == "promoted" and event.detail["to"] == number for event in workspace.ledger.events()):
        if not in_use(workspace, version):
            notes.append(f"it was champion once and is not promoted again by itself: nacre promote {number} does")
        return _as_it_was(step, version, notes)
    scorer = Scorer(workspace)
    judged = judge_version(workspace, scorer, version, step.against)
    return _settle(step, version, judged, scorer, tuple(notes))


def _as_it_was(step: Step, version: Version, notes: list[str]) -> Evolution | None:
    """What is known of a version; None if it was never judged."""
    verdict = step.workspace.ledger.verdict(version.number)
    if verdict is None:
        return None
    return Evolution(
        version=version,
        parent=version.parents[0] if version.parents else None,
        verdict=verdict,
        promoted=in_use(step.workspace, version),
        trained=False,
        matrix=lineage_matrix(step.workspace, version.number),
        notes={"data": version.snapshot.notes, "training": tuple(notes)},
    )


def learn(step: Step, by: Callable[[Job], Trained] = train) -> Evolution:
    """Train, judge, and only then register: what cannot be judged never gets a number. `by` is what trains."""
    workspace = step.workspace
    known, scorer = tasks_of(step.lineage), Scorer(workspace)
    _check_scoring(step, scorer)
    told = tuple(power_notes(workspace, step.against))
    for note in told if not step.weak else ():  # once, not before every try
        step.tell(note)
    memory, leaked = memory_of(step, known)
    conditions = _conditions(step, memory)
    with Meter(gpu=pick_device().type == "cuda") as meter:  # or go on with a run of the very same kind that was killed
        trained = by(job_of(step, memory, conditions, work=step.run, shared=workspace.memory))
    needs, artifact = _publish(step, known, trained)
    made = Version(
        number=0,
        parents=(step.parent.number,) if step.parent else (),
        base=workspace.settings.model,
        base_sha256=workspace.base.identity,
        kind="adapter" if trained.kind == "adapter" else "full",
        artifact=artifact,
        needs=needs,
        recipe=step.recipe,
        environment=environment_of(trained.folder),
        snapshot=step.snapshot,
        tasks=tuple({**known, step.snapshot.task: None}),
        train_seconds=trained.seconds,
        drift=trained.drift,
        limits=dict(conditions.limits),
        weak=dict(step.weak),
        share=conditions.share,
        general=sha256_file(conditions.general) if conditions.general else "",
        energy=meter.energy,
        cpu_seconds=round(meter.cpu_seconds, 3),
        federated=trained.federated,
    )
    judged = judge_version(workspace, scorer, made, step.against)
    version = workspace.ledger.add_version(**made.model_dump(exclude={"number", "created", "schema_version"}))
    found = _settle(step, version, judged, scorer, (*leaked, *trained.notes), trained)
    # after a promotion no other unfinished run can be taken up either: it started from the old champion
    shutil.rmtree(step.run.parent if found.promoted else step.run, ignore_errors=True)
    return replace(found, notes={"power": told, **found.notes})


def _check_scoring(step: Step, scorer: Scorer) -> None:
    """Whether everything can be scored as the settings say: an hour of training later is too late to learn that."""
    workspace = step.workspace
    kept = tasks_of(ancestry(workspace, step.against))
    tasks = dict(devs({**kept, **tasks_of(step.lineage)}))
    if step.snapshot.dev:
        tasks[step.snapshot.task] = step.snapshot.dev
    scorer.check(workspace.weights(step.parent) if step.parent else workspace.base, tasks.items())


def _conditions(step: Step, memory: Memory) -> Conditions:
    """What the settings say of this training beside its recipe."""
    keep, general = step.workspace.settings.keep, step.workspace.settings.data.general
    return Conditions(
        limits=limits((*memory, step.snapshot.task), keep),
        share=keep.data,
        general=step.workspace.root / general if general else None,
    )


def _publish(step: Step, known: dict[str, Task], trained: Trained) -> tuple[str, str]:
    """Put the result into the store with its manifest; returns what it needs below it, and its hash."""
    parent, snapshot = step.parent, step.snapshot
    needs = ""
    if trained.kind == "adapter" and trained.below is not None:
        needs = step.workspace.store.publish_folder(Path(trained.below.model))
    elif trained.kind == "adapter" and parent is not None:
        needs = parent.needs if parent.kind == "adapter" else parent.artifact
    new = Lineage(task=snapshot.task, train=snapshot.replayable, dev=snapshot.dev)
    manifest = Manifest(
        kind="adapter" if trained.kind == "adapter" else "full",
        base=step.workspace.settings.model,
        base_sha256=step.workspace.base.identity,
        parent=parent.artifact if parent else "",
        needs=needs,
        recipe=trained.recipe,
        environment=environment_of(trained.folder),
        lineage=(*as_lineage(known), new),
        nacre=__version__,
    )
    atomic_write(trained.folder / MANIFEST, manifest.model_dump_json(indent=1))
    return needs, step.workspace.store.publish_folder(trained.folder)


def _settle(
    step: Step, version: Version, judged: Judged, scorer: Scorer, notes: tuple[str, ...], trained: Trained | None = None
) -> Evolution:
    """Keep the verdict, and promote when the gate passes."""
    workspace, verdict = step.workspace, judged.verdict
    why = f"the gate passed after {step.snapshot.task}"
    decision = Decision(step.against, step.champion, step.promote, step.actor, why)
    underway = settle(workspace, version, verdict, decision)
    found = Evolution(
        version=version,
        parent=version.parents[0] if version.parents else None,
        verdict=verdict,
        promoted=in_use(workspace, version),
        trained=trained is not None,
        matrix=lineage_matrix(workspace, version.number),
        new_tasks=judged.new_tasks,
        evaluate_seconds=scorer.seconds,
        peak_rss_bytes=trained.peak_rss_bytes if trained else 0,
        notes={
            "data": step.snapshot.notes,
            "training": notes,
            "findings": (*(trained.findings if trained else ()), *_unlearned(judged)),
            "scoring": judged.notes,
            "gate": (*verdict.notes, *map(rule_line, verdict.rules), *waits(underway)),
        },
    )
    report = keep_report_or_say(workspace, version.number, found.notes, matrix=found.matrix)
    return replace(found, notes={**found.notes, "report": report})


def _unlearned(judged: Judged) -> list[str]:
    """A sentence for each new task whose score hardly rose."""
    advice = "more or better rows, a higher train.learning_rate, or train more of the model"
    return [
        f"{task} was hardly learned: its score went from {before:.2f} to {after:.2f}: {advice}"
        for task, (before, after) in judged.new_tasks.items()
        if after - before < LITTLE_LEARNED and after < 1 - LITTLE_LEARNED
    ]
