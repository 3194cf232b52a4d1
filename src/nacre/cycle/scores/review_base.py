"""The review of base and architecture: what other base models make of everything that must be kept, untrained."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from safetensors import safe_open

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace, local_folder
from nacre.records import Report, RowsFile, Weights
from nacre.registry.fingerprint import fingerprint
from nacre.stats.paired import paired

_SHAPE = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")


@dataclass(frozen=True)
class Reviewed:
    """One model in the review.

    Attributes:
        scores: by task.
        against: by task the rise over the present base model and its 95 % interval; empty for that model itself, and
            without the tasks that the two were scored on by different metrics.
        latency_s: median seconds of a single request, over all tasks.
        parameters, size_bytes: of the weights' files.
        architecture: what its config.json says.
    """

    name: str
    scores: Mapping[str, float]
    against: Mapping[str, tuple[float, float, float]]
    latency_s: float
    parameters: int
    size_bytes: int
    architecture: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Average over the tasks."""
        return math.fsum(self.scores.values()) / len(self.scores)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.name,
            "mean": self.mean,
            "scores": dict(self.scores),
            "against_present": {task: list(numbers) for task, numbers in self.against.items()},
            "latency_s": self.latency_s,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
            "architecture": dict(self.architecture),
        }


@dataclass(frozen=True)
class BaseReview:
    """All models on all kept tasks: the present base first, then the candidates, then the champion."""

    metrics: Mapping[str, str]
    models: tuple[Reviewed, ...]
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metrics": dict(self.metrics),
            "models": [model.as_dict() for model in self.models],
            "told": list(self.told),
        }


def review(workspace: Workspace, models: Sequence[str] = ()) -> BaseReview:
    """Score the present base model, other base models and the champion on every kept task's dev rows.

    Reports go into the ledger like any other, so that a second review scores only what is new. The result is written
    into the history.

    Args:
        workspace: with a champion.
        models: folders or names in the local hub cache of other base models.

    Raises:
        InputError: there is no champion, none of its tasks has dev rows, or a model cannot be found.
    """
    champion = workspace.ledger.slot("champion")
    line = ancestry(workspace, champion.version if champion else None)
    tasks = devs(tasks_of(line))
    if not tasks:
        raise InputError(
            "there is nothing to compare models on: no champion, or no kept task with dev rows",
            where=str(workspace.root),
            fix="run nacre evolve base first, with dev rows",
        )
    folders = {model: local_folder(model, workspace.root) for model in models}
    known = workspace.hidden / "fingerprints.json"
    chosen = {workspace.settings.model: workspace.base}
    chosen |= {
        name: Weights(identity=fingerprint(path, known), model=str(path))
        for name, path in folders.items()
        if fingerprint(path, known) != workspace.base.identity
    }
    chosen[f"champion, version {line[-1].number}"] = workspace.weights(line[-1])
    found = _compare(Scorer(workspace), chosen, tasks)
    same = [name for name in models if name not in chosen]
    told = [f"{name} is the present base model" for name in same] + _sentences(found)
    metrics = {task: report.metric for task, report in found[workspace.settings.model].items()}
    first = found[workspace.settings.model]
    reviewed = tuple(_reviewed(name, chosen[name], reports, first) for name, reports in found.items())
    result = BaseReview(metrics, reviewed, tuple(told))
    workspace.ledger.record("base models reviewed", "review", result.as_dict())
    return result


def _compare(
    scorer: Scorer, chosen: Mapping[str, Weights], tasks: Sequence[tuple[str, RowsFile]]
) -> dict[str, dict[str, Report]]:
    return {name: scorer.reports(weights, tasks) for name, weights in chosen.items()}


def _reviewed(name: str, weights: Weights, reports: Mapping[str, Report], first: Mapping[str, Report]) -> Reviewed:
    seconds = [second for report in reports.values() for second in report.latency_s]
    against = {} if reports is first else {task: _rise(first[task], reports[task]) for task in _same(first, reports)}
    parameters, size = _size(weights)
    config = Path(weights.model) / "config.json"
    shape = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return Reviewed(
        name=name,
        scores={task: report.mean for task, report in reports.items()},
        against=against,
        latency_s=median(seconds) if seconds else 0.0,
        parameters=parameters,
        size_bytes=size,
        architecture={key: shape[key] for key in _SHAPE if key in shape},
    )


def _same(one: Mapping[str, Report], other: Mapping[str, Report]) -> list[str]:
    """Tasks on which the same metric read the same rows."""
    return [
        task for task, report in one.items() if (report.metric, report.dev) == (other[task].metric, other[task].dev)
    ]


def _rise(before: Report, after: Report) -> tuple[float, float, float]:
    found = paired(before.scores[before.metric], after.scores[after.metric])
    return -found.drop, -found.upper(0.975), -found.lower(0.975)


def _sentences(found: Mapping[str, Mapping[str, Report]]) -> list[str]:
    """What each candidate is better and worse at than the present base model, where that is shown."""
    present, *others = found
    told = []
    for name in others:
        rises = {task: _rise(found[present][task], found[name][task]) for task in _same(found[present], found[name])}
        better = [task for task, (_, low, _) in rises.items() if low > 0]
        worse = [task for task, (_, _, high) in rises.items() if high < 0]
        told.append(
            f"{name}: shown better than {present} on {', '.join(better) or 'no task'}, "
            f"worse on {', '.join(worse) or 'no task'} (each at 95 %)"
        )
    return told


def _size(weights: Weights) -> tuple[int, int]:
    """Parameters and bytes of the safetensors files, an adapter's beside those it sits on."""
    folders = [Path(weights.model), *([Path(weights.adapter)] if weights.adapter else [])]
    files = [path for folder in folders for path in sorted(folder.rglob("*.safetensors"))]
    parameters = 0
    for path in files:
        with safe_open(path, framework="numpy") as tensors:
            names = list(tensors.keys())
            parameters += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return parameters, sum(path.stat().st_size for path in files)
