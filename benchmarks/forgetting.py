"""Forgetting on real tasks: every protection, alone and in sensible company, between plain and joint training.

    python benchmarks/forgetting.py --data FOLDER --model FOLDER [--sequence bilingual] [--methods plain auto joint]

FOLDER/TASK/{train,dev}.json hold alpaca rows. Every method starts from the same version 1, which knows the base
task; each increment is then trained with `nacre evolve`'s own code, with one try unless the method says otherwise.
A version the gate holds or refuses is still carried on, because the sequence has to go on; what it said is counted.

Figures: average accuracy (mean score at the end, exact match), BWT, forgetting, learning accuracy, all without the
base task; the base task itself; perplexity on general text, relative to version 1's; and cost: CPU seconds spent in
training, everything a protection does before and after included, relative to plain. Runs that `--out` has already
are not made again.
"""

import argparse
import json
import math
import shutil
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.cycle.increment.evolve import evolve
from nacre.cycle.lineage import Task, ancestry, tasks_of
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.snapshot import take_snapshot
from nacre.model.environment import environment
from nacre.model.load import load_model, load_tokenizer
from nacre.model.losses import text_losses

SEQUENCES: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "bilingual": (
        "waimai_zh",
        (
            ("dbpedia", "thucnews_zh", "agnews", "medical_triage_zh"),
            ("medical_triage_zh", "agnews", "thucnews_zh", "dbpedia"),
            ("thucnews_zh", "medical_triage_zh", "dbpedia", "agnews"),
        ),
    ),
    "english": (
        "sst2",
        (
            ("agnews", "dbpedia", "amazon"),
            ("amazon", "agnews", "dbpedia"),
            ("dbpedia", "amazon", "agnews"),
        ),
    ),
}

LENGTH = {"bilingual": 256, "english": 512}  # tokens of a row; the second model's tokens are little more than letters
LORA = {"tune": {"name": "lora"}}
HELD = {"name": "distill", "on": ["generic", "replayed"]}


def _alone(name: str, **options: Any) -> dict[str, Any]:
    return {"protect": [{"name": name, **options}]}


def _with_replay(name: str, **options: Any) -> dict[str, Any]:
    return {"protect": ["replay", {"name": name, **options}]}


METHODS: dict[str, dict[str, Any]] = {
    "plain": {"protect": "none"},
    "joint": {"protect": "none", "train": {"epochs": 6}},  # as many passes as `auto` gives a single increment
    "auto": {},
    "auto, up to 3 tries": {"keep": {"tries": 3}},
    "auto, 5 % of the rows kept": {"keep": {"data": 0.05}},
    "auto, no rows kept": {"keep": {"data": 0.0}},
    "auto, lora, no rows kept": {"keep": {"data": 0.0}, **LORA},
    "plain lora": {"protect": "none", **LORA},
    "auto, lora": LORA,
    "replay": _alone("replay"),
    "replay 1/3": _alone("replay", share=0.33),
    "replay, 5 % of the rows": _alone("replay", budget=0.05, per_class=0),
    "replay, 5 %, 20 a class": _alone("replay", budget=0.05),
    "replay surprise": _alone("replay", order="surprise"),
    "rehearse": _alone("rehearse"),
    "lm": _alone("lm"),
    "replay + lm": _with_replay("lm"),
    "distill generic": _alone("distill"),
    "replay + distill replayed": _with_replay("distill", on=["replayed"]),
    "replay + der": _with_replay("der"),
    "ewc": _alone("ewc", strength="auto"),
    "replay + ewc": _with_replay("ewc", strength="auto"),
    "si": _alone("si"),
    "l2": _alone("l2"),
    "agem": _alone("agem"),
    "mofo": _alone("mofo"),
    "freeze": _alone("freeze", first=1),
    "block-expansion": _alone("block-expansion"),
    "osf": _alone("osf"),
    "orthogonal": {**_alone("orthogonal"), **LORA},
    "separate": {**_alone("separate"), **LORA},
    "average": _alone("average"),
    "merge": _alone("merge"),
    "merge, ties": _alone("merge", method="ties"),
    "merge, dare": _alone("merge", method="dare_linear"),
    "general": _alone("general"),  # its text is that whose perplexity is told
    "sdft": _alone("sdft"),
    "intruder": {**_alone("intruder"), **LORA},
}


def main() -> None:
    given = _arguments()
    base, orders = SEQUENCES[given.sequence]
    runs = json.loads(given.out.read_text(encoding="utf-8"))["runs"] if given.out.exists() else []
    known = {(run["method"], tuple(run["order"])) for run in runs}
    for place, order in list(enumerate(orders))[given.first : given.first + given.orders]:
        for method in given.methods or METHODS:
            if (method, order) not in known:
                try:
                    runs.append(measure(given, (base, *order), method, seed=place))
                except InputError as error:
                    print(f"{method} is refused: {error}", flush=True)
                    continue
                shown = {key: value for key, value in runs[-1].items() if key != "matrix"}
                print(json.dumps(shown, ensure_ascii=False), flush=True)
                _write(given, runs)
    print("\n".join(summarise(runs)))


def _write(given: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    given.out.parent.mkdir(parents=True, exist_ok=True)
    made = {"sequence": given.sequence, "model": given.model.name, "environment": environment().model_dump()}
    kept = {**made, "table": summarise(runs), "runs": runs}
    given.out.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def measure(given: argparse.Namespace, tasks: tuple[str, ...], method: str, seed: int) -> dict[str, Any]:
    """One sequence with one method: scores of every version on every task it has seen, and what it cost."""
    folder = given.work / f"{method.replace(' ', '-').replace('/', '-').replace(',', '')}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_start(given, tasks, seed), folder)
    settings = _settings(METHODS[method], seed, LENGTH[given.sequence])
    if method == "general":
        settings["data"] = {"general": str(given.general.resolve())}
    workspace = Workspace.open(folder, settings)
    verdicts, newest, drifts = Counter[str](), 1, []
    for name in ("joint",) if method == "joint" else tasks[1:]:
        result = evolve(workspace, name, promote="never", parent=newest)
        newest = result.version.number
        drifts.append(result.version.drift)
        verdicts[result.verdict.outcome] += 1
    cost = sum(version.cpu_seconds or 0.0 for version in workspace.ledger.versions() if version.number > 1)  # all tries
    matrix = _matrix(workspace, newest, tasks)
    first, last = matrix[0], matrix[-1]
    count, sequential = len(tasks) - 1, method != "joint"
    best = [max(row[j] for row in matrix[j:]) for j in range(len(tasks))] if sequential else last
    versions = (workspace.ledger.version(1), workspace.ledger.version(newest))
    before, after = (_perplexity(given, workspace, version) for version in versions)
    shutil.rmtree(folder)
    return {
        "method": method,
        "order": list(tasks[1:]),
        "average_accuracy": statistics.mean(last[1:]),
        "bwt": statistics.mean(last[j] - matrix[j][j] for j in range(1, count)) if sequential else 0.0,
        "forgetting": statistics.mean(best[j] - last[j] for j in range(1, count)) if sequential else 0.0,
        "learning_accuracy": statistics.mean(matrix[j][j] if sequential else last[j] for j in range(1, len(tasks))),
        "base_task": last[0],
        "base_task_before": first[0],
        "general_perplexity": after / before if before and after else None,
        "cpu_seconds": cost,
        "verdicts": dict(verdicts),
        "drift": drifts,
        "last": dict(zip(tasks, last, strict=True)),
        "matrix": matrix,
    }


def _settings(method: dict[str, Any], seed: int, length: int) -> dict[str, Any]:
    """The method's settings on top of what all methods share."""
    train = {"max_length": length, "seed": seed, **method.get("train", {})}
    keep = {"tries": 1, **method.get("keep", {})}
    return {**method, "train": train, "keep": keep, "evaluate": {"max_length": length}}


def _start(given: argparse.Namespace, tasks: tuple[str, ...], seed: int) -> Path:
    """A workspace whose version 1 has learned the base task: the same start for every method of an order."""
    folder = given.work / f"start-{given.sequence}-{seed}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _write_data(given, folder, tasks)
        evolve(
            Workspace.init(folder, str(given.model.resolve()), _settings({}, seed, LENGTH[given.sequence])), tasks[0]
        )
        (folder / "done").touch()
    return folder


def summarise(runs: list[dict[str, Any]]) -> list[str]:
    """A Markdown table: mean over the orders, and the standard deviation of the average accuracy."""
    lines = [
        "| method | orders | average accuracy | BWT | forgetting | learning accuracy | base task | general perplexity "
        "| gap closed | cost |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    of = {method: [run for run in runs if run["method"] == method] for method in METHODS}
    for method, found in ((method, found) for method, found in of.items() if found):
        orders = [run["order"] for run in found]
        plain, joint = ([run for run in of[name] if run["order"] in orders] for name in ("plain", "joint"))
        gap, cost = "", ""
        if len(plain) == len(joint) == len(found):
            low, high = (_mean(one, "average_accuracy") for one in (plain, joint))
            gap = f"{(_mean(found, 'average_accuracy') - low) / (high - low):.0%}"
            cost = f"{_mean(found, 'cpu_seconds') / _mean(plain, 'cpu_seconds'):.2f}"
        spread = statistics.stdev(run["average_accuracy"] for run in found) if len(found) > 1 else 0.0
        perplexity = f"{_mean(found, 'general_perplexity'):.1f}" if found[0]["general_perplexity"] else ""
        lines.append(
            f"| {method} | {len(found)} | {_mean(found, 'average_accuracy'):.3f} ± {spread:.3f} "
            f"| {_mean(found, 'bwt'):+.3f} | {_mean(found, 'forgetting'):.3f} "
            f"| {_mean(found, 'learning_accuracy'):.3f} "
            f"| {_mean(found, 'base_task'):.3f} | {perplexity} | {gap} | {cost} |"
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


def _perplexity(given: argparse.Namespace, workspace: Workspace, version: Any) -> float | None:
    """On the general text, in blocks of 256 tokens."""
    if given.general is None:
        return None
    weights = workspace.weights(version)
    texts = [row.prompt[0].content for row in read_examples(given.general).examples[: given.general_rows]]
    losses = text_losses(load_model(weights), load_tokenizer(weights), texts, 256)
    return math.exp(sum(loss.nll for loss in losses) / sum(loss.tokens for loss in losses))


def _dev_only(workspace: Workspace, name: str) -> Task:
    snapshot = take_snapshot(name, workspace.dataset_dir, workspace.memory)
    return Task(name=name, train=(snapshot.train,), dev=snapshot.dev, learned_in=0)


def _write_data(given: argparse.Namespace, folder: Path, tasks: tuple[str, ...]) -> None:
    """The first rows of each task; `joint` holds the training rows of all of them and their dev rows."""
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
    parser.add_argument("--sequence", choices=SEQUENCES, default="bilingual")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help="default: all")
    parser.add_argument("--general", type=Path, help="general text, for its perplexity: one text a line or JSON lines")
    parser.add_argument("--general-rows", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/forgetting.json"))
    parser.add_argument("--work", type=Path, default=Path("outputs/forgetting"), help="workspaces; replaced")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first order to run, counted from 0")
    parser.add_argument("--train-rows", type=int, default=300)
    parser.add_argument("--dev-rows", type=int, default=150)
    return parser.parse_args()


if __name__ == "__main__":
    main()
