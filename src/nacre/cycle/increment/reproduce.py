"""Train a version again from its record, in a place of its own, and say how equal the result is."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from nacre.base.errors import NacreError
from nacre.base.hashing import folder_files, folder_hash, sha256_file
from nacre.cycle.differences import differences
from nacre.cycle.increment.job import Conditions, job_of, memory_of
from nacre.cycle.increment.step import Step
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import general_path, rows_path
from nacre.gate.budget import limits
from nacre.model.environment import environment
from nacre.records import Version, Weights
from nacre.registry.scratch import REPRODUCE, scratch
from nacre.registry.weigh import weights_hash
from nacre.train.run import Trained, train

TOLERANCE = 1e-5  # of any weight: what another order of the same sums may make of it


@dataclass(frozen=True)
class Reproduction:
    """How equal the repeated training is.

    Attributes:
        trained: False where it could not even be tried; `reasons` says why.
        same_bytes: the weights are equal bit by bit.
        difference: the largest absolute difference of any weight; None where there is nothing to compare with.
        scores: by task, what was recorded and what the repeated one scores; empty where the bytes are equal.
        reasons: what was not as it was then, in sentences.
    """

    version: int
    trained: bool
    same_bytes: bool = False
    difference: float | None = None
    tolerance: float = TOLERANCE
    scores: Mapping[str, tuple[float, float]] | None = None
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether it is the same within the tolerance."""
        return self.same_bytes or (self.difference is not None and self.difference <= self.tolerance)

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        scores = {task: {"recorded": old, "repeated": new} for task, (old, new) in (self.scores or {}).items()}
        plain = {name: getattr(self, name) for name in ("version", "trained", "same_bytes", "difference", "tolerance")}
        return plain | {"equal": self.equal, "scores": scores, "seconds": self.seconds, "reasons": list(self.reasons)}


def reproduce(workspace: Workspace, number: int, *, tolerance: float = TOLERANCE) -> Reproduction:
    """Train version `number` again: same parent, rows, recipe and seed.

    Nothing of the workspace changes, but that reports on the repeated weights are kept where these are scored.

    Args:
        tolerance: largest absolute difference of any weight that still counts as equal.

    Raises:
        InputError: there is no such version.
        NacreError: the disk is full, or the training fails.
    """
    version = workspace.ledger.version(number)
    reasons = differences(version.environment.changed(tokenizer="", template="", tokens=""), environment())
    if version.environment.device != (here := environment().device):
        reasons.append(f"it was trained on {version.environment.device}, and this is {here}")
    missing = _missing(workspace, version)
    if missing:
        return Reproduction(number, trained=False, tolerance=tolerance, reasons=(*missing, *reasons))
    conditions, told = _conditions(workspace, version)
    reasons += told
    with scratch(workspace.hidden, REPRODUCE) as folder:
        trained = _train(workspace, version, conditions, folder)
        same = _same_bytes(workspace, version, trained)
        difference = 0.0 if same else _difference(workspace, version, trained.folder)
        scores = {} if same else _scores(workspace, version, trained)
    if not same and difference is None:
        reasons.append("its own weights are not here any more, so that only their hash could be compared")
    return Reproduction(number, True, same, difference, tolerance, scores, trained.seconds, tuple(reasons))


def _missing(workspace: Workspace, version: Version) -> list[str]:
    """Why the training cannot be repeated at all."""
    found = []
    if version.combined:
        whole = f"nacre combine {' '.join(map(str, version.parents))} --by {version.combined.how.by}"
        found.append(f"it was not trained but put together: {whole} makes it again")
    if version.compressed:
        above = version.parents[0] if version.parents else "its parent"
        again = f"nacre compress {above} --to {version.compressed.how.to} makes it again"
        found.append(f"it was not trained but made smaller: {again}")
    if version.federated:
        found.append("parties trained it together, each on rows that are not here")
    if version.origin:
        found.append(f"it was not trained here but came from the archive {version.origin['archive']}")
    if not rows_path(workspace.memory, version.snapshot.train.sha256).is_file():
        share = f" (keep.data was {version.share:g})" if version.snapshot.kept is not None else ""
        found.append(f"its train rows were not kept{share}")
    line = ancestry(workspace, version.parents[0] if version.parents else None)
    files = {file.sha256: name for name, task in tasks_of(line).items() for file in task.train}
    lost = {name for sha, name in files.items() if not rows_path(workspace.memory, sha).is_file()}
    found += [f"the rows of {name}, which it may have replayed, were not kept" for name in sorted(lost)]
    for parent in line[-1:]:
        try:
            workspace.weights(parent)
        except NacreError as error:
            found.append(f"version {parent.number}, from which it was trained: {error.what}")
    if version.base_sha256 != workspace.base.identity:
        found.append("nacre.yaml names another base model than it was trained from")
    return found


def _conditions(workspace: Workspace, version: Version) -> tuple[Conditions, list[str]]:
    """What the record says beside the recipe, and where it says nothing what stands in for it."""
    told = []
    general = workspace.settings.data.general
    path = workspace.root / general if general and version.general else None
    kept = general_path(workspace.memory, version.general)
    path = kept if version.general and kept.is_file() else path
    if version.general and (path is None or not path.is_file() or sha256_file(path) != version.general):
        told.append("the generic text (data.general) is not the file of then")
    wanted: Mapping[str, float] | None = version.limits
    if wanted is None:  # an older record
        told.append("what its training was allowed to lose was not recorded: keep.max_drop of now stands in")
        tasks = tasks_of(ancestry(workspace, version.parents[0] if version.parents else None))
        wanted = limits((*tasks, version.snapshot.task), workspace.settings.keep)
    return Conditions(wanted, version.share, path if path is not None and path.is_file() else None), told


def _train(workspace: Workspace, version: Version, conditions: Conditions, folder: Path) -> Trained:
    """The training, with copies of the memory's files (links: they are replaced, never changed)."""
    line = ancestry(workspace, version.parents[0] if version.parents else None)
    step = Step(
        workspace=workspace,
        snapshot=version.snapshot,
        lineage=line,
        champion=None,
        promote="never",
        actor="reproduce",
        recipe=version.recipe,
        weak=version.weak,
    )
    shared = folder / "memory"
    for kind in ("generic", "importance", "rehearsed", "teacher"):
        if (workspace.memory / kind).is_dir():
            shutil.copytree(workspace.memory / kind, shared / kind, copy_function=os.link)
    memory, _ = memory_of(step, tasks_of(line))
    return train(job_of(step, memory, conditions, work=folder / "run", shared=shared))


def _same_bytes(workspace: Workspace, version: Version, trained: Trained) -> bool:
    """By the recorded hash; older records have none, so that the artifact's list of files is asked."""
    recorded = version.weights or weights_hash(workspace.store.hashes(version.artifact))
    return recorded != "" and weights_hash(folder_files(trained.folder)) == recorded


def _difference(workspace: Workspace, version: Version, made: Path) -> float | None:
    """The largest absolute difference of any weight; infinite where names or shapes differ."""
    if not workspace.store.has(version.artifact):
        return None
    kept = workspace.store.path(version.artifact)
    files = [{path.relative_to(folder) for path in folder.rglob("*.safetensors")} for folder in (kept, made)]
    if files[0] != files[1]:
        return float("inf")
    largest = 0.0
    for name in sorted(files[0]):
        with safe_open(kept / name, framework="pt") as one, safe_open(made / name, framework="pt") as other:
            if set(one.keys()) != set(other.keys()):
                return float("inf")
            for key in one.keys():  # noqa: SIM118  this is no mapping
                old, new = one.get_tensor(key).double(), other.get_tensor(key).double()
                if old.shape != new.shape:
                    return float("inf")
                largest = max(largest, float((old - new).abs().max()) if old.numel() else 0.0)
    return largest


def _scores(workspace: Workspace, version: Version, trained: Trained) -> dict[str, tuple[float, float]]:
    """What the ledger has of the version, and what the repeated one scores on the same rows."""
    recorded = {report.task: report for report in workspace.ledger.reports(weights=version.artifact)}
    tasks = [
        (name, dev)
        for name, dev in devs(tasks_of(ancestry(workspace, version.number)))
        if name in recorded and rows_path(workspace.memory, dev.sha256).is_file()
    ]
    identity = folder_hash(trained.folder)
    weights = Weights(identity=identity, model=str(trained.folder))
    if trained.kind == "adapter":
        below = str(workspace.store.path(version.needs)) if version.needs else workspace.base.model
        weights = Weights(identity=identity, model=below, adapter=trained.folder)
    found = Scorer(workspace).reports(weights, tasks)
    return {name: (recorded[name].mean, found[name].mean) for name, _ in tasks}
