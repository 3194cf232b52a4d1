"""One increment, from its data to a judged version: check → train → score → gate → register → promote."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nacre import __version__
from nacre.base.files import file_lock
from nacre.base.hashing import content_hash
from nacre.cycle.lineage import Task, ancestry, as_lineage, rows_of, tasks_of
from nacre.cycle.matrix import devs, lineage_matrix
from nacre.cycle.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.data.snapshot import take_snapshot
from nacre.evaluate.matrix import Matrix, average_accuracy, bwt, forgetting
from nacre.gate.rules import TaskPair, judge
from nacre.model.environment import environment
from nacre.records import Lineage, Manifest, Report, Snapshot, Verdict, Version
from nacre.records.manifest import MANIFEST
from nacre.train.run import Job, Trained, train


@dataclass(frozen=True)
class Evolution:
    """What `evolve` did. `trained` is False when the same data was learned before and nothing had to be done."""

    version: Version
    parent: int | None
    verdict: Verdict
    promoted: bool
    trained: bool
    matrix: Matrix | None
    new_tasks: dict[str, tuple[float, float]] = field(default_factory=dict)
    evaluate_seconds: float = 0.0
    peak_rss_bytes: int = 0
    notes: tuple[str, ...] = ()

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Per task what was, what is, and what the gate says; a task that is new has no verdict."""
        found: dict[str, dict[str, Any]] = {
            task.task: {
                "before": task.before,
                "after": task.after,
                "drop": task.drop,
                "interval": task.interval,
                "margin": task.margin,
                "verdict": task.outcome,
                "metric": task.metric,
                "rows": task.rows,
                "more_rows": task.more_rows,
            }
            for task in self.verdict.tasks
        }
        for name, (before, after) in self.new_tasks.items():
            found[name] = {
                "before": before,
                "after": after,
                "drop": before - after,
                "interval": None,
                "margin": None,
                "verdict": "new",
            }
        return found

    @property
    def exit_code(self) -> int:
        """0 passed, 3 refused by the gate, 4 undecided and held."""
        return {"pass": 0, "fail": 3, "undecided": 4}[self.verdict.outcome]

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        figures = {}
        if self.matrix is not None:
            figures = {
                "average_accuracy": average_accuracy(self.matrix).value,
                "bwt": bwt(self.matrix).value,
                "forgetting": forgetting(self.matrix).value,
            }
        return {
            "version": self.version.number,
            "parent": self.parent,
            "snapshot": self.version.snapshot.model_dump(mode="json"),
            "tasks": self.tasks(),
            "matrix": self.matrix.model_dump(mode="json") if self.matrix else None,
            "average_accuracy": None,
            "bwt": None,
            "forgetting": None,
            **figures,
            "verdict": self.verdict.outcome,
            "promoted": self.promoted,
            "trained": self.trained,
            "train_seconds": self.version.train_seconds,
            "evaluate_seconds": self.evaluate_seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on the kept tasks, and (before, after) of the tasks the champion does not know."""

    verdict: Verdict
    new_tasks: dict[str, tuple[float, float]]
    notes: list[str]


def evolve(
    workspace: Workspace,
    name: str,
    *,
    promote: Literal["pass", "never"] | None = None,
    parent: int | None = None,
    actor: str = "evolve",
) -> Evolution:
    """Learn increment `name` on top of the champion (or of version `parent`) without losing what it knows.

    Raises:
        InputError: the data, the model or a setting is wrong; nothing was trained.
        NacreError: disk full, a corrupted artifact, or another run in this workspace.
    """
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        champion = workspace.ledger.slot("champion")
        start = parent if parent is not None else (champion.version if champion else None)
        lineage = ancestry(workspace, start)
        known = tasks_of(lineage)
        snapshot = take_snapshot(
            name,
            workspace.dataset_dir,
            workspace.memory,
            drop_budget=workspace.settings.data.drop_budget,
            dev_share=workspace.settings.data.dev_share,
            history=tuple(task.dev for task in known.values() if task.dev),
            stage=workspace.settings.train.stage,
        )
        before = _done_before(workspace, snapshot, lineage, start)
        if before is not None:
            return before
        return _learn(workspace, snapshot, lineage, promote or workspace.settings.gate.promote, actor)


def _done_before(
    workspace: Workspace, snapshot: Snapshot, lineage: list[Version], start: int | None
) -> Evolution | None:
    """The earlier version that learned the very same rows, if there is one: then nothing is trained."""
    learned = next(
        (v for v in lineage if v.snapshot.task == snapshot.task and v.snapshot.data_hash == snapshot.data_hash), None
    )
    version = learned or workspace.ledger.same_training(snapshot.data_hash, start, workspace.settings.recipe)
    verdict = workspace.ledger.verdict(version.number) if version else None
    if version is None or verdict is None:
        return None
    where = "the model in use comes from it" if learned else f"it is held as a candidate ({verdict.outcome})"
    return Evolution(
        version=version,
        parent=version.parents[0] if version.parents else None,
        verdict=verdict,
        promoted=bool(learned),
        trained=False,
        matrix=lineage_matrix(workspace, version.number),
        notes=(f"nothing to do: version {version.number} was trained on exactly these rows, and {where}",),
    )


def _learn(workspace: Workspace, snapshot: Snapshot, lineage: list[Version], promote: str, actor: str) -> Evolution:
    known = tasks_of(lineage)
    parent = lineage[-1] if lineage else None
    champion = workspace.ledger.slot("champion")
    against = champion.version if champion else None
    run = workspace.hidden / "runs" / _run_key(workspace, snapshot, parent)
    trained = _train(workspace, snapshot, known, parent, run)
    needs, artifact = _publish(workspace, snapshot, known, parent, trained)
    made = Version(
        number=0,
        parents=(parent.number,) if parent else (),
        base=workspace.settings.model,
        base_sha256=workspace.base.identity,
        kind="adapter" if trained.kind == "adapter" else "full",
        artifact=artifact,
        needs=needs,
        recipe=workspace.settings.recipe,
        environment=environment(),
        snapshot=snapshot,
        tasks=tuple({**known, snapshot.task: None}),
        train_seconds=trained.seconds,
    )
    scorer = Scorer(workspace)
    judged = _judge(workspace, scorer, made, against)
    verdict = judged.verdict
    version = workspace.ledger.add_version(**made.model_dump(exclude={"number", "created", "schema_version"}))
    workspace.ledger.put_verdict(version.number, against, verdict)
    promoted = promote == "pass" and verdict.outcome == "pass"
    if promoted:
        workspace.ledger.promote(
            version.number,
            expected=champion.generation if champion else 0,
            actor=actor,
            why=f"the gate passed after {snapshot.task}",
            evidence=verdict.digest,
        )
    shutil.rmtree(run, ignore_errors=True)
    return Evolution(
        version=version,
        parent=parent.number if parent else None,
        verdict=verdict,
        promoted=promoted,
        trained=True,
        matrix=lineage_matrix(workspace, version.number),
        evaluate_seconds=scorer.seconds,
        peak_rss_bytes=trained.peak_rss_bytes,
        new_tasks=judged.new_tasks,
        notes=(*snapshot.notes, *trained.notes, *judged.notes, *verdict.notes),
    )


def _run_key(workspace: Workspace, snapshot: Snapshot, parent: Version | None) -> str:
    """Names the folder of a run, so that one that was killed is found again."""
    start = parent.artifact if parent else workspace.base.identity
    return content_hash([snapshot.data_hash, start, workspace.settings.recipe.model_dump(mode="json")])[:16]


def _train(
    workspace: Workspace, snapshot: Snapshot, known: dict[str, Task], parent: Version | None, run: Path
) -> Trained:
    """Train, or take up the finished result of a run that was killed afterwards."""
    general = workspace.settings.data.general
    job = Job(
        start=workspace.weights(parent) if parent else workspace.base,
        recipe=workspace.settings.recipe,
        new=read_rows(workspace.memory, snapshot.train),
        work=run,
        shared=workspace.memory,
        memory={name: rows_of(workspace, task) for name, task in known.items()},
        general=workspace.root / general if general else None,
    )
    return train(job)


def _publish(
    workspace: Workspace, snapshot: Snapshot, known: dict[str, Task], parent: Version | None, trained: Trained
) -> tuple[str, str]:
    """Put the result into the store with its manifest; returns what it needs below it, and its hash."""
    needs = ""
    if trained.kind == "adapter" and parent is not None:
        needs = parent.needs if parent.kind == "adapter" else parent.artifact
    new = Lineage(task=snapshot.task, train=snapshot.train, dev=snapshot.dev)
    manifest = Manifest(
        kind="adapter" if trained.kind == "adapter" else "full",
        base=workspace.settings.model,
        base_sha256=workspace.base.identity,
        parent=parent.artifact if parent else "",
        needs=needs,
        recipe=trained.recipe,
        environment=environment(),
        lineage=(*as_lineage(known), new),
        nacre=__version__,
    )
    (trained.folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return needs, workspace.store.publish_folder(trained.folder)


def _judge(workspace: Workspace, scorer: Scorer, made: Version, against: int | None) -> Judged:
    """Score the champion and the candidate on every task, and judge what the champion knows."""
    champion_line = ancestry(workspace, against)
    kept = dict(devs(tasks_of(champion_line)))
    line = [*ancestry(workspace, made.parents[0] if made.parents else None), made]
    tasks = {**kept, **dict(devs(tasks_of(line)))}
    notes = [] if made.snapshot.dev else [f"{made.snapshot.task} has no dev rows: it is learned, but cannot be proved"]
    if not tasks:
        return Judged(judge([], workspace.settings.keep), {}, notes)
    old = scorer.reports(workspace.weights(champion_line[-1]) if champion_line else workspace.base, tasks.items())
    new = scorer.reports(workspace.weights(made), tasks.items())
    pairs = [TaskPair(name, new[name].metric, _scores(old[name]), _scores(new[name])) for name in kept]
    notes += [f"{name}: scored by {report.why}" for name, report in new.items()]
    notes += [f"{name}: {note}" for name, report in new.items() for note in report.notes]
    fresh = {name: (old[name].mean, new[name].mean) for name in tasks if name not in kept}
    return Judged(judge(pairs, workspace.settings.keep), fresh, notes)


def _scores(report: Report) -> tuple[float, ...]:
    return report.scores[report.metric]
