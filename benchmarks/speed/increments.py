"""What increment k costs: training and scoring of twenty increments in a row, beside joint retraining on all rows.

    python benchmarks/speed/increments.py --model FOLDER [--count 20] [--joint 2 5 10 20] [--out JSON] [--plot PNG]

Every increment is a made-up task of its own (four labels, told by words that no other task has) with as many rows as
every other. `nacre evolve`'s own code runs with its defaults; seconds are CPU seconds of one process and one thread.
Joint retraining learns the rows of the first k tasks at once, from the model before any of them, as many passes as an
increment gets. The first increment has nothing to keep, so the second is what later ones are compared with.
"""

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from nacre.cycle.increment.evolve import evolve
from nacre.cycle.workspace import Workspace

SYLLABLES = "ba de fi go hu ka le mi no pu ra se ti vo wu ya ze cho sha tri"
FILLER = "people talked about it for a long time and nobody could say what would come of it"
LABELS = ("north", "south", "east", "west")


def main() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    shutil.rmtree(given.work, ignore_errors=True)
    names = [f"task_{place:02}" for place in range(1, given.count + 1)]
    settings = {"train": {"max_length": 128, "seed": 0}, "keep": {"tries": 1}, "evaluate": {"max_length": 128}}
    workspace = Workspace.init(given.work, str(given.model.resolve()), settings)
    for place, name in enumerate(names):
        _write(workspace.dataset_dir / name, _rows(place, given.rows + given.dev_rows), given.dev_rows)
    found: dict[str, Any] = {"model": given.model.name, "rows": given.rows, "dev_rows": given.dev_rows}
    found |= {"increments": [], "joint": []}
    newest: int | None = None
    for place, name in enumerate(names, 1):
        newest, one = _measured(workspace, name, newest)
        found["increments"].append({"k": place, **one})
        _tell(given, found)
    for count in given.joint:
        tasks = [_rows(place, given.rows + given.dev_rows) for place in range(count)]
        dev = [row for rows in tasks for row in rows[: given.dev_rows]]
        train = [row for rows in tasks for row in rows[given.dev_rows :]]
        _write(workspace.dataset_dir / f"joint_{count}", [*dev, *train], len(dev))
        _, one = _measured(workspace, f"joint_{count}", 0, epochs=6)
        found["joint"].append({"k": count, **one})
        _tell(given, found)
    if given.plot:
        plot(found, given.plot)


def plot(found: dict[str, Any], path: Path) -> None:
    """Cost against the number of the increment, beside joint retraining on all rows so far."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, rows, key in (
        ("one increment: training, scoring, gate", found["increments"], "cpu_seconds"),
        ("of that, training", found["increments"], "training"),
        ("joint retraining on all rows so far", found["joint"], "cpu_seconds"),
    ):
        axes.plot([row["k"] for row in rows], [row[key] for row in rows], marker="o", markersize=3, label=name)
    axes.set_xlabel("increment k")
    axes.set_xticks([row["k"] for row in found["increments"]])
    axes.set_ylabel("CPU seconds")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _measured(workspace: Workspace, name: str, parent: int | None, **train: Any) -> tuple[int, dict[str, Any]]:
    """CPU seconds of one increment, those in the trainer apart, and what the gate said."""
    if train:
        changed = workspace.settings.train.model_dump() | train
        workspace = Workspace.open(workspace.root, {"train": changed, "protect": "none", "keep": {"tries": 1}})
    started = time.process_time()
    result = evolve(workspace, name, promote="never", parent=parent)
    whole, training = time.process_time() - started, result.version.cpu_seconds or 0.0
    told = {"cpu_seconds": round(whole, 1), "training": round(training, 1), "verdict": result.verdict.outcome}
    return result.version.number, told


def _rows(task: int, count: int) -> list[dict[str, str]]:
    """Rows of one task, the same every time."""
    draw = random.Random(task)
    syllables = SYLLABLES.split()
    words = {label: ["".join(draw.choices(syllables, k=2)) for _ in range(6)] for label in LABELS}
    asked = f"Where does the {''.join(draw.choices(syllables, k=3))} live? Answer north, south, east or west."
    rows = []
    for place in range(count):
        label = LABELS[place % len(LABELS)]
        said = draw.choices(FILLER.split(), k=draw.randint(8, 20)) + draw.choices(words[label], k=3)
        draw.shuffle(said)
        rows.append({"instruction": asked, "input": " ".join(said), "output": label})
    return rows


def _write(folder: Path, rows: list[dict[str, str]], dev: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("dev", rows[:dev]), ("train", rows[dev:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _tell(given: argparse.Namespace, found: dict[str, Any]) -> None:
    print(json.dumps((found["joint"] or found["increments"])[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rows", type=int, default=120, help="train rows of an increment")
    parser.add_argument("--dev-rows", type=int, default=60)
    parser.add_argument("--joint", type=int, nargs="*", default=[2, 5, 10, 20])
    parser.add_argument("--work", type=Path, default=Path("/tmp/nacre-increments"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
