"""A version made smaller, from its weights to a judged child: round or prune → heal → measure → gate → register.

What comes out is a child version with the same tasks and rows. It goes the way an increment goes: nothing is promoted
that the gate has not passed, and a command that was killed leaves the ledger as it was.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nacre import __version__
from nacre.base.errors import InputError
from nacre.base.files import atomic_write, file_lock, staged_folder
from nacre.base.hashing import content_hash, folder_hash
from nacre.cycle.environment import environment_of
from nacre.cycle.increment.energy import Meter
from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.settle import Decision, in_use, settle, waits
from nacre.cycle.increment.step import Promote
from nacre.cycle.lineage import Task, ancestry, as_lineage, devs, rows_of, tasks_of
from nacre.cycle.reports.report import keep_report_or_say
from nacre.cycle.scores.judging import Judged, judge_version
from nacre.cycle.scores.matrix import lineage_matrix
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.scores.weighing import weigh
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.gate.report import rule_line
from nacre.model.chat import encode
from nacre.model.load import load_model, load_tokenizer, parameter_count, pick_device, positions
from nacre.model.smaller import COMPRESSIONS
from nacre.model.smaller.base import whole_model
from nacre.model.smaller.pruned import zeros_of
from nacre.records import Compressed, Compressing, Example, Manifest, Recipe, Version, Weights
from nacre.records.manifest import MANIFEST
from nacre.records.tune import Full
from nacre.registry.slots import Slot
from nacre.train.auto import learning_rate
from nacre.train.run import Job, Trained, train

CALIBRATION = 64  # rows that show which weights are used
GENTLY = 0.25  # of the rate that new rows get: what is healed is nearly right
HEALED = "sft"  # kind of rows that a healing run learns from


@dataclass(frozen=True)
class Compression:
    """What `compress` did: the version as `evolve` would tell of it, and what it gained and cost."""

    evolution: Evolution
    compressed: Compressed

    @property
    def exit_code(self) -> int:
        """As `Evolution.exit_code`."""
        return self.evolution.exit_code

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        told = self.compressed
        sides = {"before": told.before, "after": told.after}
        measured = {side: one.model_dump(mode="json", exclude={"schema_version"}) for side, one in sides.items()}
        beside = {"zeros": told.zeros, "same_answers": told.same_answers, "same_tokens": told.same_tokens}
        how = told.how.model_dump(mode="json", exclude={"schema_version"})
        return {**self.evolution.as_dict(), "compressed": how, **measured, **beside, "size_ratio": size_ratio(told)}


@dataclass(frozen=True)
class _Task:
    """One version to make smaller, and everything that is known before it is."""

    workspace: Workspace
    parent: Version
    asked: Compressing
    champion: Slot | None
    promote: Promote
    actor: str

    @cached_property
    def known(self) -> dict[str, Task]:
        """The parent's tasks."""
        return tasks_of(ancestry(self.workspace, self.parent.number))

    @property
    def start(self) -> Weights:
        """The parent's weights."""
        return self.workspace.weights(self.parent)

    @property
    def against(self) -> int:
        """The version that the result is judged against: the champion, or where there is none the parent."""
        return self.champion.version if self.champion else self.parent.number

    @property
    def work(self) -> Path:
        """The folder it is done in, named by what decides the result."""
        asked = self.asked.model_dump(mode="json")
        recipe = self.recipe.model_dump(mode="json")
        return self.workspace.hidden / "runs" / content_hash(["compress", self.parent.artifact, asked, recipe])[:16]

    @property
    def recipe(self) -> Recipe:
        """How it is healed; the parent's own where it is not: nothing is trained then."""
        if not self.asked.heal:
            return self.parent.recipe
        settings = self.workspace.settings.train
        changed: dict[str, Any] = {"epochs": self.asked.heal, "stage": "sft"}
        if settings.learning_rate == "auto":
            changed["learning_rate"] = GENTLY * learning_rate(Full(), parameter_count(self.start))
        return Recipe(tune=Full(), train=settings.model_copy(update=changed), protect=())


def compress(
    workspace: Workspace,
    number: int,
    to: str,
    *,
    method: str | None = None,
    keep: float | None = None,
    heal: float | None = None,
    promote: Promote | None = None,
    actor: str = "compress",
) -> Compression:
    """Make version `number` smaller, judge what comes of it against the champion, and register it as its child.

    Args:
        workspace: where the version is.
        number: the version.
        to: int8, int4, pruned or merged.
        method: how; default: the way's own.
        keep: pruned: share of the linear layers' weights that stay; default 0.8.
        heal: pruned: passes over the kept rows afterwards; default 1, 0 is none.
        promote: make it champion when the gate passes it, or never; default: as `nacre.yaml` says.
        actor: who the history says did it.

    Raises:
        InputError: no such version, way or method; the version cannot be made smaller in this way; nothing was made.
        NacreError: disk full, a damaged artifact, or another run in this workspace.
    """
    asked = COMPRESSIONS.load(to, where="--to")().settled(method, keep, heal)
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        workspace.store.sweep()
        if not number:
            fix = "nacre evolve base makes version 1"
            what = "version 0 is the base model, which has no tasks to judge by"
            raise InputError(what, where="nacre compress 0", fix=fix)
        parent = ancestry(workspace, number)[-1]
        workspace.check_base(parent)
        _check(parent, asked)
        champion = workspace.ledger.slot("champion")
        task = _Task(workspace, parent, asked, champion, promote or workspace.settings.gate.promote, actor)
        return _known_already(task) or _make(task)


def _check(parent: Version, asked: Compressing) -> None:
    """Refuse what would change nothing, or would round what was rounded already."""
    was = parent.compressed
    if was is not None and was.how.to in ("int8", "int4"):
        above = parent.parents[0] if parent.parents else "NUMBER"
        raise InputError(
            f"version {parent.number} is held in {was.how.to} already, and rounding it again adds up",
            where=f"version {parent.number}",
            fix=f"nacre compress {above} --to {asked.to}",
        )
    if asked.to == "merged" and parent.kind != "adapter":
        fix = "--to int8, int4 or pruned"
        raise InputError(f"version {parent.number} has no adapter to merge", where=f"version {parent.number}", fix=fix)


def _known_already(task: _Task) -> Compression | None:
    """A version that was made in exactly this way, if its weights are here: judged anew, not made."""
    workspace, parent = task.workspace, task.parent
    for version in workspace.ledger.versions()[::-1]:
        told = version.compressed
        same = version.parents == (parent.number,) and version.recipe == task.recipe and not version.origin
        if same and told and told.how == task.asked and workspace.store.has(version.artifact):
            was = f"version {version.number} was made from version {parent.number} in exactly this way"
            notes = [f"nothing to make: {was}"]
            if any(one.kind == "promoted" and one.detail["to"] == version.number for one in workspace.ledger.events()):
                task = replace(task, promote="never")
                if not in_use(workspace, version):
                    notes.append(f"it was champion once: nacre promote {version.number} makes it that again")
            judged = judge_version(workspace, scorer := Scorer(workspace), version, task.against)
            said = {"smaller": (*notes, *sentences(told))}
            found = _settled(task, version, judged, said)
            return Compression(replace(found, trained=False, evaluate_seconds=scorer.seconds), told)
    return None


def _make(task: _Task) -> Compression:
    """Make, measure, judge, and only then register: what cannot be judged never gets a number."""
    workspace, parent = task.workspace, task.parent
    dev, scorer = devs(task.known), Scorer(workspace)
    scorer.check(task.start, dev)
    with Meter(gpu=pick_device().type == "cuda") as meter:
        folder, notes = _written(task)
        trained, said = _healed(task, folder) if task.asked.heal else (None, [])
    folder = trained.folder if trained else folder
    atomic_write(folder / MANIFEST, _manifest(task, folder, trained).model_dump_json(indent=1))
    artifact = workspace.store.publish_folder(folder)
    after = Weights(identity=artifact, model=str(workspace.store.path(artifact)))
    zeros = zeros_of(load_model(after)) if task.asked.to == "pruned" else 0.0
    pair = weigh(workspace, scorer, task.start, after, dev)
    made = Version(
        number=0,
        parents=(parent.number,),
        base=parent.base,
        base_sha256=parent.base_sha256,
        kind=task.asked.to,
        artifact=artifact,
        recipe=task.recipe,
        environment=environment_of(folder),
        snapshot=parent.snapshot,
        tasks=parent.tasks,
        train_seconds=trained.seconds if trained else 0.0,
        drift=trained.drift if trained else None,
        share=workspace.settings.keep.data,
        energy=meter.energy,
        cpu_seconds=round(meter.cpu_seconds, 3),
        compressed=Compressed(how=task.asked, zeros=zeros, **pair._asdict()),
    )
    judged = judge_version(workspace, scorer, made, task.against)
    fields = made.model_dump(exclude={"number", "created", "schema_version"})
    version = workspace.ledger.add_version(actor=task.actor, **fields)
    assert version.compressed is not None
    told = {"smaller": (*notes, *said, *sentences(version.compressed)), "healing": trained.notes if trained else ()}
    found = _settled(task, version, judged, told)
    shutil.rmtree(task.work, ignore_errors=True)
    rss = trained.peak_rss_bytes if trained else 0
    return Compression(replace(found, evaluate_seconds=scorer.seconds, peak_rss_bytes=rss), version.compressed)


def _written(task: _Task) -> tuple[Path, list[str]]:
    """The folder with the smaller weights and the tokenizer; made anew, whatever a killed command left there."""
    tokenizer = load_tokenizer(task.start)
    folder = task.work / "smaller"
    shutil.rmtree(folder, ignore_errors=True)
    with staged_folder(folder) as staging:
        notes: list[str] = COMPRESSIONS.load(task.asked.to)().write(
            whole_model(task.start), staging, task.asked, _calibration(task, tokenizer)
        )
        tokenizer.save_pretrained(str(staging))
    return folder, notes


def _calibration(task: _Task, tokenizer: Any) -> list[list[int]]:
    """Token ids of a few kept rows of each task, where this way of pruning looks at them."""
    if task.asked.to != "pruned" or task.asked.method == "magnitude":
        return []
    longest = min(task.recipe.train.max_length, positions(task.start) or task.recipe.train.max_length)
    rows = [row for found in _kept_rows(task).values() for row in found[: max(1, CALIBRATION // len(task.known))]]
    return [encode(row, tokenizer, longest).input_ids for row in rows]


def _kept_rows(task: _Task) -> dict[str, list[Example]]:
    """The train rows of each task that can be learned from as they are; no dev row is among them."""
    workspace = task.workspace
    held_out = {row.content_id for _, dev in devs(task.known) for row in read_rows(workspace.memory, dev)}
    found = {name: rows_of(workspace, one) for name, one in task.known.items()}
    return {
        name: [row for row in rows if row.kind == HEALED and row.content_id not in held_out]
        for name, rows in found.items()
    }


def _healed(task: _Task, folder: Path) -> tuple[Trained | None, list[str]]:
    """A short training of all kept rows on the pruned model, whose zeros stay zeros."""
    rows = [row for found in _kept_rows(task).values() for row in found]
    if not rows:
        return None, ["not healed: no rows with answers are kept that it could learn from"]
    job = Job(
        start=Weights(identity=folder_hash(folder), model=str(folder)),
        recipe=task.recipe,
        new=rows,
        work=task.work / "healing",
        shared=task.workspace.memory,
        task=task.parent.snapshot.task,
        base=task.workspace.base.identity,
    )
    return train(job), [f"healed by {task.asked.heal:g} passes over {len(rows)} kept rows"]


def _manifest(task: _Task, folder: Path, trained: Trained | None) -> Manifest:
    return Manifest(
        kind=task.asked.to,
        base=task.parent.base,
        base_sha256=task.parent.base_sha256,
        parent=task.parent.artifact,
        recipe=trained.recipe if trained else task.recipe,
        environment=environment_of(folder),
        lineage=as_lineage(task.known),
        nacre=__version__,
        compressed=task.asked,
    )


def _settled(task: _Task, version: Version, judged: Judged, notes: Mapping[str, tuple[str, ...]]) -> Evolution:
    """Keep the verdict and its report, and promote when the gate passes."""
    workspace, verdict = task.workspace, judged.verdict
    why = f"the gate passed version {task.parent.number} as {task.asked.to}"
    underway = settle(workspace, version, verdict, Decision(task.against, task.champion, task.promote, task.actor, why))
    gate = (*verdict.notes, *map(rule_line, verdict.rules), *waits(underway))
    told = {name: said for name, said in notes.items() if said} | {"scoring": judged.notes, "gate": gate}
    return Evolution(
        version=version,
        parent=task.parent.number,
        verdict=verdict,
        promoted=in_use(workspace, version),
        trained=True,
        matrix=lineage_matrix(workspace, version.number),
        new_tasks=judged.new_tasks,
        notes={**told, "report": keep_report_or_say(workspace, version.number, told)},
    )


def sentences(told: Compressed) -> list[str]:
    """What was gained and lost, for the notes and the report."""
    before, after = told.before, told.after
    said = [f"size {before.size_bytes:,} → {after.size_bytes:,} bytes, {size_ratio(told):.3f} of it"]
    if before.tokens_s and after.tokens_s:
        faster = after.tokens_s / before.tokens_s
        pace = f"{before.tokens_s:,.0f} → {after.tokens_s:,.0f} tokens a second"
        said.append(f"decodes {pace}, {faster:.2f} times as fast")
    if before.perplexity and after.perplexity:
        said.append(f"perplexity on the dev rows {before.perplexity:.3f} → {after.perplexity:.3f}")
    if told.same_answers is not None and told.same_tokens is not None:
        same = f"{told.same_answers:.1%} of the answers and {told.same_tokens:.1%} of their tokens are the same"
        said.append(same)
    if told.how.to == "pruned":
        said.append(f"{told.zeros:.1%} of the linear layers' weights are zero; dense products get no faster by that")
    return said


def size_ratio(told: Compressed) -> float:
    """Bytes after, as a share of those before."""
    return told.after.size_bytes / told.before.size_bytes
