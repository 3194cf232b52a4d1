"""Preferences as an increment of a workspace: learned by dpo, judged by the gate beside the skills that answer."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workspace_kit import Place, assert_clear, rows, write_increment, write_lines

if TYPE_CHECKING:
    from toy_kit import Toy


def write_pairs(place: Place, name: str, task: str) -> None:
    """An increment of pairs: the task's answer was chosen, another one rejected."""
    found = rows(task)
    known = sorted({row["output"] for row in found})

    def pair(row: dict[str, str]) -> dict[str, Any]:
        other = known[(known.index(row["output"]) + 1) % len(known)]
        return {"instruction": row["instruction"], "input": "", "chosen": row["output"], "rejected": other}

    write_lines(place.dataset / name / "train.json", [pair(row) for row in found[80:176]])
    write_lines(place.dataset / name / "dev.json", [pair(row) for row in found[:80]])


@pytest.fixture(scope="module")
def preferring(_lived_in: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """The workspace with a third version that learned preferences, and what `evolve` said of it."""
    root = tmp_path_factory.mktemp("preferring") / "assistant"
    shutil.copytree(_lived_in.root, root)
    place = Place(root)
    write_pairs(place, "taste", "place")
    place.settings(train={"stage": "dpo", "preference": {"beta": 0.5}})
    return place, place.json("evolve", "taste", code=0)


def test_preferences_are_learned_and_the_old_skills_judged(preferring: tuple[Place, dict[str, Any]]) -> None:
    place, found = preferring
    verdicts = {name: task["verdict"] for name, task in found["tasks"].items()}
    assert verdicts == {"base": "pass", "increment_1": "pass", "taste": "new"}
    taste = found["tasks"]["taste"]
    assert taste["after"] > 0.9
    assert taste["after"] > taste["before"]
    assert found["promoted"]
    assert place.champion() == found["version"] == 3


@pytest.mark.slow
def test_preferences_are_a_skill_to_be_kept_when_answers_are_learned_next(
    preferring: tuple[Place, dict[str, Any]],
) -> None:
    place, _ = preferring
    place.settings(train={"stage": "sft"})
    write_increment(place.dataset, "increment_2", "place")
    said = place.nacre("evolve", "increment_2")
    assert said.code == 0, said
    assert "preference pairs are learned from as supervised rows" in said.out
    found = place.json("evolve", "increment_2")
    assert found["tasks"]["taste"]["verdict"] == "pass"
    assert found["tasks"]["taste"]["after"] > 0.9


def test_a_reward_model_is_no_version_of_a_line_that_answers(lived_in: Place) -> None:
    write_pairs(lived_in, "taste", "place")
    lived_in.settings(train={"stage": "rm"})
    assert_clear(lived_in.nacre("evolve", "taste"), "a reward model does not", "nacre train")
    assert lived_in.champion() == 2


@pytest.mark.slow
def test_a_workspace_of_reward_models(fresh: Place) -> None:
    write_pairs(fresh, "taste", "place")
    fresh.settings(train={"stage": "rm"}, tune="lora")
    first = fresh.json("evolve", "taste")
    assert first["tasks"]["taste"]["after"] > 0.9
    assert first["promoted"]
    write_pairs(fresh, "more", "feed")
    second = fresh.json("evolve", "more")
    assert second["tasks"]["taste"]["verdict"] == "pass"
    assert second["tasks"]["more"]["after"] > 0.9
    fresh.settings(train={"stage": "sft"})
    assert_clear(fresh.nacre("evolve", "base"), "is a reward model, which does not answer")


@pytest.mark.parametrize("stage", ["rm", "dpo"])
def test_a_folder_of_each_stage_is_written_with_its_log(stage: str, toy: "Toy", tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_pairs(place, "taste", "feed")
    words = ("--model_name_or_path", toy.base.model, "--dataset", "taste", "--output_dir", "out", "--stage", stage)
    found = place.nacre("train", *words, "--max_steps", "3", "--finetuning_type", "lora")
    assert found.code == 0, found
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    log = [json.loads(line) for line in (tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()]
    assert any("loss" in entry for entry in log)
