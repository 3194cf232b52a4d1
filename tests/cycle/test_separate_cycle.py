"""Separate adapters through the whole cycle: nothing is lost, in a workspace and from folder to folder."""

import pytest

from nacre.cycle.increment.folder import FolderJob, evaluate_folder, folder_weights, train_folder
from nacre.cycle.workspace import Workspace
from nacre.model.router import BASE, Router
from nacre.records import Recipe
from workspace_kit import Place, write_increment

SETTINGS = {"protect": ["separate"], "tune": {"name": "lora", "rank": 8}}
TRAIN = {"epochs": 2, "learning_rate": 1e-2}


@pytest.mark.slow
def test_nothing_is_lost_over_three_increments(fresh: Place) -> None:
    fresh.settings(**SETTINGS, train=TRAIN)
    for name, task in (("base", "paint"), ("increment_1", "feed"), ("increment_2", "place")):
        write_increment(fresh.dataset, name, task, dev=40)
        found = fresh.json("evolve", name)
        assert (found["verdict"], found["promoted"]) == ("pass", True)
    assert found["bwt"] == 0
    assert found["forgetting"] == 0
    assert {name: found["tasks"][name]["drop"] for name in ("base", "increment_1")} == {"base": 0, "increment_1": 0}
    with Workspace.open(fresh.root) as workspace:
        versions = [workspace.ledger.version(number) for number in (1, 2, 3)]
        folders = [workspace.store.path(version.artifact) for version in versions]
        assert {(version.kind, version.needs) for version in versions} == {("adapter", "")}
    for name in ("adapter_1", "adapter_2"):
        saved = [folder / name / "adapter_model.safetensors" for folder in folders]
        assert len({path.read_bytes() for path in saved if path.exists()}) == 1
    tasks = {route.task: route.adapter for route in Router.load(folders[-1]).routes}
    assert tasks == {"base": "adapter_1", "increment_1": "adapter_2", "increment_2": "adapter_3"}


@pytest.mark.slow
def test_a_version_trained_otherwise_is_the_frozen_base_from_then_on(lived_in: Place) -> None:
    lived_in.settings(**SETTINGS, train=TRAIN)
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.json("evolve", "increment_2")
    assert {name: found["tasks"][name]["drop"] for name in ("base", "increment_1")} == {"base": 0, "increment_1": 0}
    with Workspace.open(lived_in.root) as workspace:
        before, made = workspace.ledger.version(2), workspace.ledger.version(3)
        assert (made.kind, made.needs) == ("adapter", before.artifact)
        routes = Router.load(workspace.store.path(made.artifact)).routes
        assert {route.task: route.adapter for route in routes} == {
            "base": BASE,
            "increment_1": BASE,
            "increment_2": "adapter_1",
        }
        assert workspace.weights(made).model == str(workspace.store.path(before.artifact))


def test_from_folder_to_folder(toy, fresh: Place, tmp_path) -> None:
    recipe = Recipe.model_validate({**SETTINGS, "train": {**TRAIN, "batch_size": 8, "max_length": 64, "min_steps": 1}})
    start, previous = toy.base.model, None
    for name, task in (("one", "feed"), ("two", "place")):
        write_increment(fresh.dataset, name, task, dev=20)
        job = FolderJob(start, name, fresh.dataset, tmp_path / name, recipe, previous=previous)
        made = train_folder(job)
        assert not any("are not in" in note for note in made.notes)
        start = previous = str(tmp_path / name)
    weights = folder_weights(start)
    assert weights.routed
    assert (weights.model, str(weights.adapter)) == (toy.base.model, start)
    assert weights.identity != folder_weights(str(tmp_path / "one")).identity
    before = evaluate_folder(str(tmp_path / "one"), "dev_all.json", fresh.dataset)
    after = evaluate_folder(start, "dev_all.json", fresh.dataset)
    assert after["one"].scores == before["one"].scores
    assert after["one"].answers == before["one"].answers
