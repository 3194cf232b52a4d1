"""Forgetting on real tasks: plain fine-tuning, nacre's default, and joint training, over several orders.

    python benchmarks/forgetting.py --data FOLDER --model FOLDER --out benchmarks/results/forgetting.json

FOLDER/TASK/{train,dev}.json hold alpaca rows. Every method starts from the same version 1, which knows the base
task; each increment is then trained with `nacre evolve`'s own code. Figures: average accuracy (mean exact match at
the end), BWT, learning accuracy, with and without the base task, and the cost: CPU seconds of all increments,
training, scoring and gate together, relative to plain.
A version the gate holds or refuses is still carried on here, because the sequence has to go on; what the gate
said is counted.
"""

import argparse
import json
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nacre.cycle.evolve import evolve
from nacre.cycle.lineage import Task, ancestry, tasks_of
from nacre.cycle.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.snapshot import take_snapshot
from nacre.model.environment import environment

BASE = "waimai_zh"
ORDERS = (
    ("dbpedia", "thucnews_zh", "agnews", "medical_triage_zh"),
    ("medical_triage_zh", "agnews", "thucnews_zh", "dbpedia"),
    ("thucnews_zh", "medical_triage_zh", "dbpedia", "agnews"),
)
METHODS: dict[str, dict[str, Any]] = {
    "plain": {"protect": "none"},
    "default": {},
    "joint": {"protect": "none", "train": {"epochs": 6}},  # as many passes as `auto` gives a single increment
}


def main() -> None:
    given = _arguments()
    runs = []
    for place, order in enumerate(ORDERS[: given.orders]):
        for method in METHODS:
            run = measure(given, order, method, seed=place)
            runs.append(run)
            print(json.dumps({key: value for key, value in run.items() if key != "matrix"}), flush=True)
    table = summarise(runs)
    print("\n".join(table))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {"runs": runs, "table": table, "environment": environment().model_dump(), "model": given.model.name}
    given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measure(given: argparse.Namespace, order: tuple[str, ...], method: str, seed: int) -> dict[str, Any]:
    """One sequence with one method: scores of every version on every task it has seen, and what it cost."""
    folder = given.work / f"{method}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    tasks = (BASE, *order)
    shutil.copytree(_start(given, tasks, seed), folder)
    workspace = Workspace.open(folder, METHODS[method] | {"train": _train(seed) | METHODS[method].get("train", {})})
    started, verdicts, newest = time.process_time(), Counter[str](), 1
    for name in ("joint",) if method == "joint" else order:
        result = evolve(workspace, name, promote="never", parent=newest)
        newest = result.version.number
        verdicts[result.verdict.outcome] += 1
    cpu_seconds = time.process_time() - started
    matrix = _matrix(workspace, newest, tasks)
    last = matrix[-1]
    sequential = method != "joint"
    return {
        "method": method,
        "order": list(order),
        "average_accuracy": statistics.mean(last[1:]),
        "average_accuracy_with_base": statistics.mean(last),
        "bwt": statistics.mean(last[j] - matrix[j][j] for j in range(1, len(order))) if sequential else 0.0,
        "bwt_with_base": statistics.mean(last[j] - matrix[j][j] for j in range(len(order))) if sequential else None,
        "learning_accuracy": statistics.mean(matrix[j][j] if sequential else last[j] for j in range(1, len(tasks))),
        "base_task": last[0],
        "cpu_seconds": cpu_seconds,
        "verdicts": dict(verdicts),
        "last": dict(zip(tasks, last, strict=True)),
        "matrix": matrix,
    }


def _train(seed: int) -> dict[str, Any]:
    return {"max_length": 256, "seed": seed}


def _start(given: argparse.Namespace, tasks: tuple[str, ...], seed: int) -> Path:
    """A workspace whose version 1 has learned the base task: the same start for every method of an order."""
    folder = given.work / f"start-{seed}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _write_data(given, folder, tasks)
        settings = {"train": _train(seed), "evaluate": {"max_length": 256}}
        evolve(Workspace.init(folder, str(given.model.resolve()), settings), BASE)
        (folder / "done").touch()
    return folder


def summarise(runs: list[dict[str, Any]]) -> list[str]:
    """A Markdown table: mean and standard deviation over the orders."""
    lines = [
        "| method | average accuracy | BWT | learning accuracy | base task | with base: AA / BWT | gap closed | cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_method = {method: [run for run in runs if run["method"] == method] for method in METHODS}
    means = {method: _mean(found, "average_accuracy") for method, found in by_method.items()}
    for method, found in by_method.items():
        gap = (means[method] - means["plain"]) / (means["joint"] - means["plain"])
        cost = _mean(found, "cpu_seconds") / _mean(by_method["plain"], "cpu_seconds")
        spread = statistics.stdev(run["average_accuracy"] for run in found) if len(found) > 1 else 0.0
        with_base = f"{_mean(found, 'average_accuracy_with_base'):.3f}"
        if method != "joint":
            with_base += f" / {_mean(found, 'bwt_with_base'):+.3f}"
        lines.append(
            f"| {method} | {means[method]:.3f} ± {spread:.3f} | {_mean(found, 'bwt'):+.3f} "
            f"| {_mean(found, 'learning_accuracy'):.3f} | {_mean(found, 'base_task'):.3f} | {with_base} "
            f"| {gap:.0%} | {cost:.2f} |"
        )
    return lines


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def _matrix(workspace: Workspace, newest: int, tasks: tuple[str, ...]) -> list[list[float]]:
    """Mean score of every version along the line on every benchmark task."""
    line = ancestry(workspace, newest)
    known = tasks_of(line)
    if "joint" in known:
        known = {name: _dev_only(workspace, name) for name in tasks}
    scorer = Scorer(workspace)
    devs = [(name, known[name].dev) for name in tasks]
    return [[report.mean for report in scorer.reports(workspace.weights(version), devs).values()] for version in line]


def _dev_only(workspace: Workspace, name: str) -> Task:
    snapshot = take_snapshot(name, workspace.dataset_dir, workspace.memory)
    return Task(name=name, train=(snapshot.train,), dev=snapshot.dev, learned_in=0)


def _write_data(given: argparse.Namespace, folder: Path, tasks: tuple[str, ...]) -> None:
    """The first rows of each task; `joint` holds the training rows of all of them and a dev row of each."""
    for name in tasks:
        for split, rows in (("train", given.train_rows), ("dev", given.dev_rows)):
            lines = (given.data / name / f"{split}.json").read_text(encoding="utf-8").splitlines(keepends=True)
            for target in (name, "joint"):
                path = folder / "dataset" / target / f"{split}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(lines[:rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per task")
    parser.add_argument("--model", type=Path, required=True, help="base model, Hugging Face layout")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/forgetting.json"))
    parser.add_argument("--work", type=Path, default=Path("outputs/forgetting"), help="workspaces; replaced")
    parser.add_argument("--orders", type=int, default=len(ORDERS))
    parser.add_argument("--train-rows", type=int, default=300)
    parser.add_argument("--dev-rows", type=int, default=150)
    return parser.parse_args()


if __name__ == "__main__":
    main()
