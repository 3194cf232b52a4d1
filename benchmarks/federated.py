"""Federated increments beside central ones: balanced and skewed shares, a liar of ten, masks, noise.

    python benchmarks/federated.py [--seeds 3] [--parties 10] [--rounds 6] [--epochs 5] [--out result.json]

The model and the rows are the demo's: a small Llama and a made-up task (which ward is a patient to go to, in Chinese).
It is learned once from all rows in one place, with as many passes as the parties make in all rounds, and then by
parties that share those rows, in each way. Scores are accuracies on all dev rows. A seed decides the shares, the order
of the rows and the first adapter.

The liar sends its honest update turned round and four times as long, which is short enough not to be refused.
"""

import argparse
import functools
import gc
import importlib.metadata
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nacre.cycle.increment.evolve import evolve
from nacre.cycle.increment.federate import Stage, federate
from nacre.cycle.workspace import Workspace
from nacre.demo.base import FOLDER as MODEL
from nacre.demo.skills import write_skills
from nacre.model.environment import environment
from nacre.records import Federating
from nacre.train.federated.app import ARRAYS, record_of

TASK = "increment_1"
LIE = 4.0  # lengths of an honest update
WAYS: dict[str, dict[str, Any]] = {
    "trimmed mean, balanced": {},
    "trimmed mean, one liar": {"liars": 1},
    "mean, one liar": {"aggregation": "mean", "liars": 1},
    "trimmed mean, skew 0.3": {"skew": 0.3},
    "mean, balanced": {"aggregation": "mean"},
    "mean, skew 0.3": {"aggregation": "mean", "skew": 0.3},
    "mean, masked": {"aggregation": "mean", "secure": True, "least": 3},
    "trimmed mean, 2 vanish halfway": {"vanish": 2},
    "mean, noise 0.1": {"aggregation": "mean", "clip": 1.0, "noise": 0.1},
    "median, balanced": {"aggregation": "median"},
    "median, one liar": {"aggregation": "median", "liars": 1},
    "trimmed mean, two liars": {"liars": 2},
    "mean, noise 0.5": {"aggregation": "mean", "clip": 1.0, "noise": 0.5},
}
AGAIN = tuple(WAYS)[:4]  # with the other seeds: what noise there is


def main() -> None:
    given = _arguments()
    gc.freeze()  # hundreds of short trainings: each collects garbage, and asks which packages there are at every step
    importlib.metadata.metadata = functools.cache(importlib.metadata.metadata)
    found: dict[str, Any] = {"environment": environment().model_dump(), "threads": torch.get_num_threads()}
    found |= {
        "parties": given.parties,
        "rounds": given.rounds,
        "epochs": given.epochs,
        "rows": given.rows,
        "model": given.model.name,
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    end = time.monotonic() + 60 * given.minutes
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder, _workspace(Path(folder) / "assistant", given, seed) as space:
            _keep(given, found, runs, "central", _central(space))
            for name, way in WAYS.items():
                if (given.only and name not in given.only) or (seed and name not in AGAIN) or time.monotonic() > end:
                    continue
                _keep(given, found, runs, name, _together(space, given, way))
    print("\n".join(lines(found["table"])))


def _keep(
    given: argparse.Namespace, found: dict[str, Any], runs: dict[str, Any], name: str, one: dict[str, Any]
) -> None:
    """Write what there is: the rest may take an hour."""
    runs.setdefault(name, []).append(one)
    found |= {"runs": runs, "table": table(runs)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(name, one, flush=True)


def _workspace(folder: Path, given: argparse.Namespace, seed: int) -> Workspace:
    train = {
        "learning_rate": given.rate,
        "max_length": given.length,
        "epochs": given.rounds * given.epochs,
        "seed": seed,
    }
    settings = {"train": train, "tune": {"name": "lora", "rank": 16}, "protect": "none", "keep": {"tries": 1}}
    space = Workspace.init(folder, str(given.model.resolve()), {**settings, "evaluate": {"max_length": given.length}})
    if given.data is None:
        write_skills(folder)
    else:
        shutil.copytree(given.data, space.dataset_dir / TASK)
    path = space.dataset_dir / TASK / "train.json"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[: given.rows]), encoding="utf-8")
    return space


def _central(space: Workspace) -> dict[str, Any]:
    started = time.perf_counter()
    made = evolve(space, TASK, promote="never", parent=0)
    return _scores(made.tasks(), time.perf_counter() - started)


def _together(space: Workspace, given: argparse.Namespace, way: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in way.items() if name not in ("liars", "vanish")}
    how = Federating.model_validate(
        {"rounds": given.rounds, "epochs": given.epochs, "simulated": given.parties, **plain}
    )

    def cast(number: int, app: Callable[..., Any]) -> Callable[..., Any]:
        if number <= way.get("liars", 0):
            return _liar(app)
        return _vanishing(app, given.rounds // 2) if number <= way.get("vanish", 0) else app

    started = time.perf_counter()
    made = federate(space, TASK, how, seats=Stage(cast=cast), promote="never", parent=0)
    seconds = time.perf_counter() - started
    told = made.federated
    more = {"counted": [one.counted for one in told.rounds], "refused": [one.refused for one in told.rounds]}
    return _scores(made.evolution.tasks(), seconds) | more | {"epsilon": told.epsilon}


def _scores(tasks: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    return {"score": tasks[TASK]["after"], "before": tasks[TASK]["before"], "seconds": round(seconds, 1)}


def _liar(app: Callable[..., Any]) -> Callable[..., Any]:
    def lie(message: Any, context: Any) -> Any:
        start = {name: one.numpy() for name, one in message.content[ARRAYS].items()}
        reply = app(message, context)
        sent = {name: one.numpy() for name, one in reply.content[ARRAYS].items()}
        reply.content[ARRAYS] = record_of(
            {name: start[name] - np.float32(LIE) * (sent[name] - start[name]) for name in sent}
        )
        return reply

    return lie


def _vanishing(app: Callable[..., Any], rounds: int) -> Callable[..., Any]:
    left = [rounds]

    def answer(message: Any, context: Any) -> Any:
        left[0] -= 1
        return app(message, context) if left[0] >= 0 else None

    return answer


def table(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Means over the seeds, and the distance to central training in points, seed by seed."""
    central = [one["score"] for one in runs["central"]]
    found = {}
    for name, those in runs.items():
        scores = [one["score"] for one in those]
        away = [100 * (one - whole) for one, whole in zip(scores, central, strict=False)]
        found[name] = {
            "score": statistics.mean(scores),
            "by_seed": scores,
            "points_from_central": statistics.mean(away),
            "points_by_seed": away,
            "seconds": statistics.mean(one["seconds"] for one in those),
        }
    return found


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    rows = ["| way | accuracy | points from central | each seed |", "|---|---|---|---|"]
    for name, one in found.items():
        seeds = ", ".join(f"{away:+.1f}" for away in one["points_by_seed"])
        rows.append(f"| {name} | {one['score']:.3f} | {one['points_from_central']:+.1f} | {seeds} |")
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parties", type=int, default=10)
    parser.add_argument("--rows", type=int, default=400, help="train rows, all parties together")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after so many")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--model", type=Path, default=MODEL, help="another model than the demo's")
    parser.add_argument("--data", type=Path, help="with train.json and dev.json, where not the demo's rows")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "federated.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
