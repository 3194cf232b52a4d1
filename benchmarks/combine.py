"""Adapters put together: what each way of `nacre combine` gains and costs on tasks with wrong labels.

    python benchmarks/combine.py --data FOLDER --model FOLDER

FOLDER/TASK/{train,dev}.json hold alpaca rows of a classification. A small model learns a first task whole; then, for
every task and seed, three LoRA adapters are trained on it, each on a share of the train rows of its own, in which some
answers were replaced by another class by chance. The dev rows are clean, and all are scored on the same ones. A fourth
adapter learns all three shares at once: what one would do who may put the rows together.
"""

import argparse
import json
import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from nacre.cycle.increment.combine import combine
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.workspace import Workspace
from nacre.model.environment import environment

WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("vote", "vote", {}),
    ("mean", "mean", {}),
    ("weighted", "weighted", {}),
    ("layers", "layers", {}),
    ("merge, equal shares", "merge", {}),
    ("merge, searched", "merge", {"search": 24}),
)
SHARES = ("one", "two", "three")
LENGTH = 256


def main() -> None:
    given = _arguments()
    found: dict[str, Any] = {"environment": environment().model_dump(), "threads": torch.get_num_threads()}
    found |= {"model": given.model.name, "noise": given.noise, "train_rows": given.train_rows, "rank": given.rank}
    shutil.rmtree(given.work, ignore_errors=True)
    train = {"max_length": LENGTH, "epochs": given.epochs}
    settings = {"train": train, "evaluate": {"max_length": LENGTH}, "keep": {"tries": 1}, "protect": "none"}
    with Workspace.init(given.work, str(given.model.resolve()), settings) as workspace:
        train_rows, dev = (_rows(given.data, given.first, split) for split in ("train", "dev"))
        _put(workspace, given.first, train_rows[: len(SHARES) * given.train_rows], dev, given)
        start = evolve(workspace, given.first).version.number
    tuned = {"tune": {"name": "lora", "rank": given.rank}, "train": train | {"learning_rate": given.rate}}
    found["runs"] = []
    with Workspace.open(given.work, tuned) as workspace:
        for task in given.tasks:
            for seed in range(given.seeds):
                found["runs"].append(_run(workspace, start, task, seed, given))
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(table(found)))


def _run(workspace: Workspace, start: int, task: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Three adapters on one task, all ways to put them together, and one adapter of all rows."""
    started = time.perf_counter()
    train, dev = (_rows(given.data, task, split) for split in ("train", "dev"))
    draw = random.Random(f"{task} {seed}")
    chosen = draw.sample(train, min(len(train), len(SHARES) * given.train_rows))
    noisy = _with_noise(chosen, given.noise, draw)
    size = len(noisy) // len(SHARES)
    parts = {name: noisy[at * size : (at + 1) * size] for at, name in enumerate(SHARES)} | {"all": noisy}
    numbers, scores = {}, {}
    for part, rows in parts.items():
        name = f"{task}_{seed}_{part}"
        _put(workspace, name, rows, dev, given)
        version = evolve(workspace, name, parent=start, promote="never").version
        numbers[part] = version.number
        scores[part] = _score(workspace, version.artifact, name)
    told: dict[str, Any] = {
        "task": task,
        "seed": seed,
        "alone": [scores[name] for name in SHARES],
        "all": scores["all"],
    }
    told["ways"] = {}
    for title, by, options in WAYS:
        made = combine(workspace, [numbers[name] for name in SHARES], by, promote="never", **options)
        one = made.combined
        told["ways"][title] = {
            "score": _score(workspace, made.evolution.version.artifact, f"{task}_{seed}_{SHARES[0]}"),
            "passes": one.passes,
            "size": one.after.size_bytes / one.before.size_bytes,
            "speed": (one.after.tokens_s or 0) / (one.before.tokens_s or 1),
            "perplexity": one.after.perplexity,
        }
    print(json.dumps(told | {"seconds": round(time.perf_counter() - started)}), flush=True)
    return told


def _score(workspace: Workspace, artifact: str, task: str) -> float:
    return next(one.mean for one in workspace.ledger.reports(weights=artifact) if one.task == task)


def _with_noise(rows: list[dict[str, Any]], noise: float, draw: random.Random) -> list[dict[str, Any]]:
    """The rows with a share of the answers replaced by another class."""
    classes = sorted({row["output"] for row in rows})
    wrong = set(draw.sample(range(len(rows)), round(noise * len(rows))))
    return [
        row | {"output": draw.choice([one for one in classes if one != row["output"]])} if at in wrong else row
        for at, row in enumerate(rows)
    ]


def _rows(data: Path, task: str, split: str) -> list[dict[str, Any]]:
    lines = (data / task / f"{split}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _put(
    workspace: Workspace, name: str, train: list[dict[str, Any]], dev: list[dict[str, Any]], given: argparse.Namespace
) -> None:
    for split, rows in (("train", train), ("dev", dev[: given.dev_rows])):
        path = workspace.dataset_dir / name / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def table(found: dict[str, Any]) -> list[str]:
    """Means over all runs, in Markdown."""
    runs = found["runs"]
    one = statistics.mean(score for run in runs for score in run["alone"])
    best = [max(run["alone"]) for run in runs]
    lines = [
        "| answers | score | better than the best of the three | passes a token | size | speed |",
        "|---|---|---|---|---|---|",
        f"| one of the three, mean | {one:.3f} | | 1 | 1 | 1 |",
        f"| the best of the three | {statistics.mean(best):.3f} | | 1 | 1 | 1 |",
    ]
    for title, _, _ in WAYS:
        ways = [run["ways"][title] for run in runs]
        won = sum(way["score"] > top for way, top in zip(ways, best, strict=True))
        lines.append(
            f"| {title} | {statistics.mean(way['score'] for way in ways):.3f} | in {won} of {len(runs)} | "
            f"{ways[0]['passes']} | {statistics.mean(way['size'] for way in ways):.2f} | "
            f"{statistics.median(way['speed'] for way in ways):.2f} |"
        )
    won = sum(run["all"] > top for run, top in zip(runs, best, strict=True))
    whole = statistics.mean(run["all"] for run in runs)
    lines.append(f"| one adapter of all three shares | {whole:.3f} | in {won} of {len(runs)} | 1 | 1 | 1 |")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per task")
    parser.add_argument("--model", type=Path, required=True, help="base model, Hugging Face layout")
    parser.add_argument("--first", default="waimai_zh", help="task that the model learns whole")
    parser.add_argument("--tasks", nargs="+", default=["agnews", "dbpedia", "thucnews_zh"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.4, help="share of the train answers that are wrong")
    parser.add_argument("--train-rows", type=int, default=200, help="of each share")
    parser.add_argument("--dev-rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/combine.json"))
    parser.add_argument("--work", type=Path, default=Path("outputs/combine"), help="workspace; replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
