"""One increment, from its data to a judged version: check → train → score → gate → register → promote."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nacre import __version__
from nacre.base.files import atomic_write, file_lock
from nacre.base.hashing import content_hash
from nacre.cycle.evolution import Evolution
from nacre.cycle.judging import Judged, judge_version
from nacre.cycle.lineage import Task, ancestry, as_lineage, devs, rows_of, tasks_of
from nacre.cycle.matrix import lineage_matrix
from nacre.cycle.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.data.snapshot import take_snapshot
from nacre.model.environment import environment
from nacre.records import Example, Lineage, Manifest, RowsFile, Snapshot, Version
from nacre.records.manifest import MANIFEST
from nacre.registry.slots import Slot
from nacre.train.run import Job, Trained, train

__all__ = ["Evolution", "evolve"]

Promote = Literal["pass", "never"]


@dataclass(frozen=True)
class Step:
    """One increment to learn: its rows, the line of versions it is learned on top of, and who is champion now."""

    workspace: Workspace
    snapshot: Snapshot
    lineage: list[Version]
    champion: Slot | None
    promote: Promote
    actor: str

    @property
    def parent(self) -> Version | None:
        """The version that training starts from; None for the base model."""
        return self.lineage[-1] if self.lineage else None

    @property
    def against(self) -> int | None:
        """The version that the result is judged against: the champion."""
        return self.champion.version if self.champion else None

    @property
    def run(self) -> Path:
        """The run's folder, named by what decides its result, so that one that was killed is found again."""
        start = self.parent.artifact if self.parent else self.workspace.base.identity
        recipe = self.workspace.settings.recipe.model_dump(mode="json")
        return self.workspace.hidden / "runs" / content_hash([self.snapshot.data_hash, start, recipe])[:16]


def evolve(
    workspace: Workspace,
    name: str,
    *,
    promote: Promote | None = None,
    parent: int | None = None,
    actor: str = "evolve",
) -> Evolution:
    """Learn increment `name` without losing what the champion knows.

    Args:
        workspace: where the champion, its rows and the settings are.
        name: a folder of the dataset folder, or a name in its `dataset_info.json`; several with commas.
        promote: make the version champion when the gate passes it, or never; default: as `nacre.yaml` says.
        parent: train from this version instead of the champion; 0 is the base model.
        actor: who the history says did it.

    Raises:
        InputError: the data, the model or a setting is wrong; nothing was trained.
        NacreError: disk full, a corrupted artifact, or another run in this workspace.
    """
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        workspace.store.sweep()
        champion = workspace.ledger.slot("champion")
        start = parent if parent is not None else champion.version if champion else 0
        lineage = ancestry(workspace, start or None)
        for version in lineage[-1:]:
            workspace.check_base(version)
        settings = workspace.settings
        step = Step(
            workspace=workspace,
            snapshot=take_snapshot(
                name,
                workspace.dataset_dir,
                workspace.memory,
                drop_budget=settings.data.drop_budget,
                dev_share=settings.data.dev_share,
                history=_dev_rows(workspace, lineage, champion),
                stage=settings.train.stage,
            ),
            lineage=lineage,
            champion=champion,
            promote=promote or settings.gate.promote,
            actor=actor,
        )
        return _known_already(step) or _taken_up(step) or _learn(step)


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
    if version.recipe != step.workspace.settings.recipe:
        start = version.parents[0] if version.parents else 0
        notes.append(f"it was trained with other settings; --from {start} trains these rows anew with those of now")
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
        workspace.settings.recipe,
        base_sha256=workspace.base.identity,
    )
    if version is None or version.snapshot.task != step.snapshot.task:
        return None
    number = version.number
    notes = [f"nothing to train: version {number} was trained on exactly these rows in exactly this way"]
    if any(event.kind == "promoted" and event.detail["to"] == number for event in workspace.ledger.events()):
        if not _in_use(workspace, version):
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
        promoted=_in_use(step.workspace, version),
        trained=False,
        matrix=lineage_matrix(step.workspace, version.number),
        notes={"data": step.snapshot.notes, "training": tuple(notes)},
    )


def _learn(step: Step) -> Evolution:
    """Train, judge, and only then register: what cannot be judged never gets a number."""
    workspace = step.workspace
    known, scorer = tasks_of(step.lineage), Scorer(workspace)
    _check_scoring(step, scorer)
    memory, leaked = _memory(step, known)
    trained = _train(step, memory)
    needs, artifact = _publish(step, known, trained)
    made = Version(
        number=0,
        parents=(step.parent.number,) if step.parent else (),
        base=workspace.settings.model,
        base_sha256=workspace.base.identity,
        kind="adapter" if trained.kind == "adapter" else "full",
        artifact=artifact,
        needs=needs,
        recipe=workspace.settings.recipe,
        environment=environment(),
        snapshot=step.snapshot,
        tasks=tuple({**known, step.snapshot.task: None}),
        train_seconds=trained.seconds,
    )
    judged = judge_version(workspace, scorer, made, step.against)
    version = workspace.ledger.add_version(**made.model_dump(exclude={"number", "created", "schema_version"}))
    found = _settle(step, version, judged, scorer, (*leaked, *trained.notes), trained)
    # after a promotion no other unfinished run can be taken up either: it started from the old champion
    shutil.rmtree(step.run.parent if found.promoted else step.run, ignore_errors=True)
    return found


def _check_scoring(step: Step, scorer: Scorer) -> None:
    """Whether everything can be scored as the settings say: an hour of training later is too late to learn that."""
    workspace = step.workspace
    kept = tasks_of(ancestry(workspace, step.against))
    tasks = dict(devs({**kept, **tasks_of(step.lineage)}))
    if step.snapshot.dev:
        tasks[step.snapshot.task] = step.snapshot.dev
    scorer.check(workspace.weights(step.parent) if step.parent else workspace.base, tasks.items())


def _memory(step: Step, known: dict[str, Task]) -> tuple[dict[str, list[Example]], list[str]]:
    """The rows to replay, without those that are dev rows now, and a note where there were such rows."""
    memory = step.workspace.memory
    files = [*(rows for _, rows in devs(known)), *([step.snapshot.dev] if step.snapshot.dev else [])]
    held_out = {row.content_id for file in files for row in read_rows(memory, file)}
    found = {name: rows_of(step.workspace, task) for name, task in known.items()}
    kept = {name: [row for row in rows if row.content_id not in held_out] for name, rows in found.items()}
    left_out = sum(map(len, found.values())) - sum(map(len, kept.values()))
    note = (
        f"{left_out} kept rows are dev rows now and are not replayed; earlier versions learned them, and score too well"
    )
    return kept, [note] if left_out else []


def _train(step: Step, memory: dict[str, list[Example]]) -> Trained:
    """Train, or go on with a run of the very same kind that was killed."""
    workspace = step.workspace
    general = workspace.settings.data.general
    job = Job(
        start=workspace.weights(step.parent) if step.parent else workspace.base,
        recipe=workspace.settings.recipe,
        new=read_rows(workspace.memory, step.snapshot.train),
        work=step.run,
        shared=workspace.memory,
        memory=memory,
        general=workspace.root / general if general else None,
    )
    return train(job)


def _publish(step: Step, known: dict[str, Task], trained: Trained) -> tuple[str, str]:
    """Put the result into the store with its manifest; returns what it needs below it, and its hash."""
    parent, snapshot = step.parent, step.snapshot
    needs = ""
    if trained.kind == "adapter" and parent is not None:
        needs = parent.needs if parent.kind == "adapter" else parent.artifact
    new = Lineage(task=snapshot.task, train=snapshot.train, dev=snapshot.dev)
    manifest = Manifest(
        kind="adapter" if trained.kind == "adapter" else "full",
        base=step.workspace.settings.model,
        base_sha256=step.workspace.base.identity,
        parent=parent.artifact if parent else "",
        needs=needs,
        recipe=trained.recipe,
        environment=environment(),
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
    if workspace.ledger.verdict(version.number) != verdict:
        workspace.ledger.put_verdict(version.number, step.against, verdict)
    if step.promote == "pass" and verdict.outcome == "pass":
        workspace.ledger.promote(
            version.number,
            expected=step.champion.generation if step.champion else 0,
            actor=step.actor,
            why=f"the gate passed after {step.snapshot.task}",
            evidence=verdict.digest,
        )
    return Evolution(
        version=version,
        parent=version.parents[0] if version.parents else None,
        verdict=verdict,
        promoted=_in_use(workspace, version),
        trained=trained is not None,
        matrix=lineage_matrix(workspace, version.number),
        new_tasks=judged.new_tasks,
        evaluate_seconds=scorer.seconds,
        peak_rss_bytes=trained.peak_rss_bytes if trained else 0,
        notes={"data": step.snapshot.notes, "training": notes, "scoring": judged.notes, "gate": verdict.notes},
    )


def _in_use(workspace: Workspace, version: Version) -> bool:
    """Whether it is the champion, or the champion comes from it."""
    champion = workspace.ledger.slot("champion")
    return champion is not None and version.number in {one.number for one in ancestry(workspace, champion.version)}
