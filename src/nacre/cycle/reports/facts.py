"""What an evolution report says, as records; and those of them that are read off one version's weights or history."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from nacre.cycle.workspace import Workspace
from nacre.evaluate.matrix import Matrix
from nacre.records import Event, Flip, Manifest, Recipe, Snapshot, Verdict, Version
from nacre.records.base import Record
from nacre.records.manifest import MANIFEST
from nacre.records.version import Energy

LOG = "trainer_log.jsonl"
MOST_POINTS = 400  # of a curve; of longer ones every second, third … point is kept


class Curve(Record):
    """One line of a picture of the training: (optimizer step, value)."""

    name: str
    points: tuple[tuple[float, float], ...]


class Arrival(Record):
    """What came in.

    Attributes:
        snapshot: hash of the snapshot's record.
        kept: rows that may outlive the increment.
        dropped: reason to number of rows that could not be used.
        sources: file to SHA-256 of its bytes.
        harvested: for an increment made of feedback, what the harvest counted.
    """

    snapshot: str
    train: int
    dev: int
    kept: int
    dropped: dict[str, int]
    sources: dict[str, str]
    harvested: dict[str, int] = Field(default_factory=dict)


class Training(Record):
    """How it was trained.

    Attributes:
        protections: names of what acted against forgetting, in order; ``auto`` where no rung was needed.
        settings: the recipe by dotted names, as text.
        limits: what each kept task was allowed to lose while training.
        drift: KL divergence in nats per answer token, from the version it was trained from.
        steps: optimizer steps.
    """

    stage: str
    tuner: str
    protections: tuple[str, ...]
    settings: dict[str, str]
    limits: dict[str, float] = Field(default_factory=dict)
    drift: float | None = None
    steps: int = 0
    curves: tuple[Curve, ...] = ()
    device: str = ""


class Learned(Record):
    """A task that the version before did not know: its rise, with a 95 % interval, and rows whose answer changed."""

    task: str
    metric: str
    rows: int
    before: float
    after: float
    interval: tuple[float, float]
    lost: int
    gained: int
    flips: tuple[Flip, ...] = ()


class Cost(Record):
    """What it took. `cpu_s` is processor time of the training (0: not counted), `evaluate_s` of all its scores."""

    train_s: float
    cpu_s: float = 0.0
    evaluate_s: float = 0.0
    energy: Energy | None = None
    size_bytes: int = 0
    parameters: int = 0


class Move(Record):
    """One event of the history that moved, judged or released the version."""

    time: str
    actor: str
    kind: str
    why: str = ""


class Advice(Record):
    """What to do next, in both languages of the report; `command` where one does it."""

    en: str
    zh: str
    command: str = ""


class Evolved(Record):
    """One version: what came in, what was trained, what it can do, what the gate says, what it cost, what is next.

    Attributes:
        parent: the version it was trained from; None for the base model.
        against: the version that the gate compared it with; None for the base model.
        slots: where it stands when this is written.
        notes: what was decided, cut or found, in sentences, by the part of the cycle that says so.
    """

    number: int
    task: str
    created: str
    base: str
    base_sha256: str
    kind: str
    artifact: str
    parent: int | None
    against: int | None
    came_in: Arrival
    training: Training
    matrix: Matrix | None
    figures: dict[str, float | None]
    verdict: Verdict | None
    learned: tuple[Learned, ...]
    cost: Cost
    slots: tuple[str, ...]
    moves: tuple[Move, ...]
    advice: tuple[Advice, ...]
    notes: dict[str, tuple[str, ...]] = Field(default_factory=dict)


def arrival(snapshot: Snapshot, events: Sequence[Event]) -> Arrival:
    """What came in, and what the harvest said of it where it was made of feedback."""
    told = [one.detail for one in events if one.kind == "harvested" and one.detail.get("increment") == snapshot.task]
    counted = {key: value for key, value in (told[-1] if told else {}).items() if isinstance(value, int)}
    return Arrival(
        snapshot=snapshot.digest,
        train=snapshot.train.rows,
        dev=snapshot.dev.rows if snapshot.dev else 0,
        kept=snapshot.replayable.rows,
        dropped=dict(Counter(row.reason for row in snapshot.dropped).most_common()),
        sources={Path(name).name: sha for name, sha in snapshot.sources.items()},
        harvested=counted,
    )


def training(workspace: Workspace, version: Version, before: Training | None) -> Training:
    """How it was trained; the curves of weights that are no longer here are those that were kept (`before`)."""
    recipe = as_trained(workspace, version)
    protections = recipe.protect if recipe.protect != "auto" else ({"name": "auto"},)
    steps, curves = _curves(workspace.store.root / version.artifact / LOG)
    if not curves and before is not None:  # the weights are gone, and what was read beside them is kept
        return before
    return Training(
        stage=recipe.train.stage,
        tuner=recipe.tune.name,
        protections=tuple(str(one["name"]) for one in protections),
        settings={name: _text(value) for name, value in _flat(recipe.model_dump(mode="json")).items()},
        limits=version.limits or {},
        drift=version.drift,
        steps=steps,
        curves=curves,
        device=version.environment.device,
    )


def as_trained(workspace: Workspace, version: Version) -> Recipe:
    """The recipe with what `auto` came to, which the weights' folder says; else the recipe as it was asked for."""
    path = workspace.store.root / version.artifact / MANIFEST
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8")).recipe
    except (OSError, ValueError):  # collected, missing, or another nacre's
        return version.recipe


def moves(events: Sequence[Event], number: int) -> tuple[Move, ...]:
    """What the history says of a version after it was made, oldest first."""
    found = []
    for event in events:
        detail = event.detail
        named = (detail.get("version"), detail.get("to"), detail.get("from"))
        if number in named and event.kind not in ("registered", "imported"):
            what = f"{event.kind}: {detail['outcome']}" if "outcome" in detail else event.kind
            what += f" {detail.get('from') or 'nothing'} → {detail['to']}" if "to" in detail else ""
            found.append(Move(time=event.time, actor=event.actor, kind=what, why=str(detail.get("why", ""))))
    return tuple(found)


def _curves(log: Path) -> tuple[int, tuple[Curve, ...]]:
    """Optimizer steps, and the losses by name; nothing where there is no log."""
    if not log.is_file():
        return 0, ()
    found: dict[str, list[tuple[float, float]]] = {}
    steps = 0
    for line in log.read_text(encoding="utf-8").splitlines():
        entry: Mapping[str, Any] = json.loads(line)
        step = int(entry.get("step", 0))
        steps = max(steps, step)
        for name, value in entry.items():
            known = isinstance(value, int | float) and math.isfinite(value)
            if known and (name == "loss" or name.endswith("_loss")):
                found.setdefault(name, []).append((float(step), float(value)))
    return steps, tuple(Curve(name=name, points=_thinned(points)) for name, points in found.items())


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    every = -(-len(points) // MOST_POINTS)
    return (*points[:-1:every], *points[-1:])


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        key: found
        for name, part in value.items()
        for key, found in _flat(part, f"{path}.{name}" if path else name).items()
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
