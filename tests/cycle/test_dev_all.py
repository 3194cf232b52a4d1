"""`dev_all.json` in a workspace: made by the first increment, kept up to date, scored by the articles' command."""

import json
import os
import subprocess
import sys

import pytest

from nacre.data.all_dev import read_dev_all
from workspace_kit import DEV_ROWS, ROOT, Place, rows, write_lines


def counts(place: Place) -> dict[str, int]:
    return {task: len(found) for task, found in read_dev_all(place.dataset / "dev_all.json").items()}


@pytest.mark.slow
def test_every_increment_s_dev_rows_are_in_it_and_the_articles_command_scores_them(lived_in: Place) -> None:
    assert counts(lived_in) == {"base": DEV_ROWS, "increment_1": DEV_ROWS}
    model = lived_in.json("versions", "show", 2)["folder"]
    words = ("--model_name_or_path", model, "--eval_dataset", "dev_all.json", "--json")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "src" / "evaluate.py"), *words],
        cwd=lived_in.root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ended.stdout)
    ours = lived_in.json("evaluate", 2)["tasks"]
    assert {task: report["rows"] for task, report in found["tasks"].items()} == counts(lived_in)
    for task, report in found["tasks"].items():
        assert report["scores"]["exact_match"] == ours[task]["scores"]["exact_match"]
    assert found["new_task"] == "increment_1"
    assert found["old_task_accuracy"] == sum(ours["base"]["scores"]["exact_match"]) / DEV_ROWS


def test_a_later_increment_brings_it_up_to_date_and_other_tasks_in_it_stay(lived_in: Place) -> None:
    path = lived_in.dataset / "dev_all.json"
    mine = {"instruction": "who", "input": "", "output": "me", "task": "my own"}
    write_lines(path, [mine, *map(json.loads, path.read_text().splitlines())])
    lived_in.settings(train={"max_steps": 1}, protect="none")
    folder = lived_in.dataset / "increment_1"  # the task again, with fewer dev rows
    write_lines(folder / "dev.json", rows("feed")[:40])
    write_lines(folder / "train.json", rows("feed")[200:220])
    found = lived_in.nacre("evolve", "increment_1", "--promote", "never", "--json").json
    assert found["version"] == 3
    assert counts(lived_in) == {"my own": 1, "base": DEV_ROWS, "increment_1": 40}
    assert any("dev rows of 3 task(s) are in" in note for note in found["notes"]["data"])
    again = lived_in.nacre("evolve", "increment_1", "--promote", "never", "--json").json
    assert not any("dev_all.json" in note for note in again["notes"]["data"]), "nothing changed, so nothing is said"


def test_it_is_made_again_when_it_is_gone_and_left_alone_when_it_cannot_be_read(lived_in: Place) -> None:
    path = lived_in.dataset / "dev_all.json"
    path.unlink()
    lived_in.json("evolve", "increment_1")
    assert counts(lived_in) == {"base": DEV_ROWS, "increment_1": DEV_ROWS}
    path.write_text("not JSON")
    found = lived_in.json("evolve", "increment_1")
    assert path.read_text() == "not JSON"
    assert any("was left as it is" in note for note in found["notes"]["data"])
