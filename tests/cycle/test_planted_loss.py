"""The gate on real tasks: a model that did not change passes, and five points lost in one of ten tasks are found.

A small real model learns the tasks; the versions that are compared are the model itself, the same weights rounded to
eight bits (a change whose true effect is small), and that copy with right answers of one task turned wrong. The rows
that the gate used are printed: `pytest -s` shows them.
"""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.convert import read_examples
from nacre.data.rows import write_rows
from nacre.gate import TaskPair, judge
from nacre.records import Example, Keep, Recipe, Verdict, Weights
from nacre.train.run import Job, train

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.timeout(3600)]

WHOLE = ("agnews", "amazon", "boolq", "medical_triage_zh", "sst2", "waimai_zh")
HALVED = ("dbpedia", "thucnews_zh")  # two tasks each: one half of the labels, and the other
TRAINED = 300  # rows of each task that the model learns from; later train rows serve as dev rows too
ROWS = 500  # dev rows of each of the ten tasks
BITS = 8  # as in an int8 copy of a model
LOSS = 0.05
Scores = Mapping[str, tuple[float, ...]]


def shared() -> Path:
    found = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared"))
    if not (found / "data" / "tasks").is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    return found


def examples(name: str, split: str) -> list[Example]:
    return read_examples(shared() / "data" / "tasks" / name / f"{split}.json", task=name).examples


def ten_tasks() -> dict[str, list[Example]]:
    """500 rows each that the model never learned from: dev rows, and behind them train rows that it was not shown."""
    unseen = {name: examples(name, "dev") + examples(name, "train")[TRAINED:] for name in (*WHOLE, *HALVED)}
    tasks = {name: unseen[name] for name in WHOLE}
    for name in HALVED:
        labels = sorted({row.answer for row in unseen[name]})
        for half in (0, 1):
            wanted = set(labels[half::2])
            tasks[f"{name}, labels {half + 1}"] = [row for row in unseen[name] if row.answer in wanted]
    return {name: rows[:ROWS] for name, rows in tasks.items()}


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """Each row of a matrix in steps of its largest value / (2^(BITS-1) - 1)."""
    if weight.ndim < 2:
        return weight
    step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / (2 ** (BITS - 1) - 1)
    return ((weight / step).round() * step).contiguous()


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scores, Scores]:
    """Scores of the model and of its rounded copy on ten tasks."""
    folder = tmp_path_factory.mktemp("real")
    base = Weights(identity="base", model=str(shared() / "models" / "bilingual-700k"))
    settings = {"epochs": 3.0, "batch_size": 16, "max_length": 256, "learning_rate": 2e-3}
    new = [row for name in (*WHOLE, *HALVED) for row in examples(name, "train")[:TRAINED]]
    recipe = Recipe.model_validate({"protect": "none", "train": settings})
    trained = train(Job(start=base, recipe=recipe, new=new, work=folder / "run", shared=folder / "memory")).folder
    copy = folder / "copy"
    copy.mkdir()
    for file in trained.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    weights = load_file(trained / "model.safetensors")
    save_file({name: rounded(one) for name, one in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    space = Workspace.init(folder / "space", str(trained), {"evaluate": {"max_length": 256}})
    with space:
        tasks = [(name, write_rows(space.memory, rows)) for name, rows in ten_tasks().items()]
        one, other = (
            Scorer(space).reports(Weights(identity=place.name, model=str(place)), tasks) for place in (trained, copy)
        )
    assert {report.metric for report in one.values()} == {"exact_match"}
    return tuple({name: report.scores[report.metric] for name, report in found.items()} for found in (one, other))


def judged(old: Scores, new: Scores, title: str, keep: Keep | None = None) -> Verdict:
    verdict = judge([TaskPair(name, "exact_match", old[name], new[name]) for name in old], keep or Keep())
    print(f"\n{title}: {verdict.outcome}")
    for task in verdict.tasks:
        used = f"{task.rows_used} of {task.rows} rows used"
        print(
            f"  {task.task:24} {task.outcome:9} {task.before:.3f} -> {task.after:.3f}  margin {task.margin:.3f}  {used}"
        )
    return verdict


def planted(old: Scores, new: Scores, task: str, seed: int) -> Scores:
    """The new scores with so many right answers of one task turned wrong that it is five points below the old."""
    right = [place for place, score in enumerate(new[task]) if score == 1]
    count = round(sum(new[task]) - sum(old[task]) + LOSS * len(new[task]))
    lost = set(random.Random(f"{task} {seed}").sample(right, count))
    found = tuple(0.0 if place in lost else score for place, score in enumerate(new[task]))
    assert sum(old[task]) / len(found) - sum(found) / len(found) == pytest.approx(LOSS)
    return {**new, task: found}


def test_the_model_itself_and_its_copy_in_eight_bits_pass(versions: tuple[Scores, Scores]) -> None:
    model, copy = versions
    assert len(model) == 10
    assert {len(scores) for scores in model.values()} == {ROWS}
    assert all(0.1 < sum(scores) / ROWS < 0.995 for scores in model.values()), "it answers neither all nor nothing"
    changed = sum(one != other for name in model for one, other in zip(model[name], copy[name], strict=True))
    assert changed >= 5, "rounding changed so few answers that nothing would be shown by this test"
    print(f"\nrounding to {BITS} bits changed {changed} of {10 * ROWS} answers")
    assert judged(model, model, "the model against itself").outcome == "pass"
    assert judged(model, copy, "its copy in 8 bits").outcome == "pass"


def test_five_points_lost_in_any_one_of_ten_tasks_are_found(versions: tuple[Scores, Scores]) -> None:
    """In each task in turn, three times with other rows: the verdict is fail, because of that task alone."""
    model, copy = versions
    found = []
    for task in model:
        for seed in range(3):
            verdict = judged(model, planted(model, copy, task, seed), f"{task} lost {LOSS:.0%}, draw {seed}")
            refused = [one.task for one in verdict.tasks if one.outcome == "fail"]
            found.append((task, seed, verdict.outcome, refused))
    print(json.dumps(found, ensure_ascii=False))
    assert [row for row in found if row[2] != "fail" or row[3] != [row[0]]] == []
