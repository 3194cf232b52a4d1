"""The contract of every protection in the table: a new one is tested by being there."""

from functools import cache

import pytest
import torch
from train_kit import tensors

from nacre.base.errors import InputError
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Protection
from toy_kit import weights_of

SEEDS = (0, 1)
# Options for the toy where the default does not fit: there are strengths that carry over to no other model.
FITTING = {"distill": {"weight": 1.0}, "ewc": {"strength": 1e6}, "l2": {"strength": 0.5}}


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Teach the toy a second task under a protection (or none); each run is made once."""

    @cache
    def run(name: str, seed: int, again: bool = False):
        protect = [{"name": name, **FITTING.get(name, {})}] if name != "none" else "none"
        return toy.learn(tmp_path_factory.mktemp(name), protect=protect, train={"seed": seed})

    return run


@pytest.mark.parametrize("name", PROTECTIONS.names())
def test_it_is_a_protection_that_says_what_it_did(name, run):
    kind = PROTECTIONS.load(name)
    assert issubclass(kind, Protection)
    assert kind.name == name
    assert any(note.startswith(f"{name}: ") for note in run(name, 0).notes)


@pytest.mark.parametrize("name", PROTECTIONS.names())
def test_unknown_options_are_refused(name, toy, tmp_path):
    with pytest.raises(InputError, match="unknown key 'strenght'") as refused:
        toy.learn(tmp_path, protect=[{"name": name, "strenght": 1}])
    assert refused.value.where.startswith(f"protect[0] ({name})")


@pytest.mark.parametrize("name", PROTECTIONS.names())
def test_it_changes_what_is_learned_and_does_so_every_time(name, run):
    plain, protected, again = tensors(run("none", 0)), tensors(run(name, 0)), tensors(run(name, 0, again=True))
    assert max(float((plain[key] - protected[key]).abs().max()) for key in plain) > 1e-3
    assert all(torch.equal(protected[key], again[key]) for key in protected)


@pytest.mark.parametrize("name", PROTECTIONS.names())
def test_it_keeps_more_of_the_old_task_than_plain_training_and_still_learns_the_new_one(name, run, toy):
    def losses(name: str, task: str) -> list[float]:
        return [toy.loss(weights_of(run(name, seed)), task) for seed in SEEDS]

    forgotten, kept = losses("none", "paint"), losses(name, "paint")
    assert min(forgotten) > 2, "plain training must forget, or the toy shows nothing"
    assert sum(kept) / len(SEEDS) < sum(forgotten) / len(SEEDS) - 0.7
    assert max(losses(name, "feed")) < 2.2 < toy.loss(toy.base, "feed") / 4


def test_an_unknown_protection_is_answered_with_the_nearest(toy, tmp_path):
    with pytest.raises(InputError, match="unknown protection 'reply'") as refused:
        toy.learn(tmp_path, protect=["reply"])
    assert "did you mean 'replay'?" in refused.value.fix


@pytest.mark.parametrize(
    ("protect", "what"),
    [
        (["l2", {"name": "l2", "strength": 2.0}], "protection 'l2' stands in the list twice"),
        ([{"strength": 1.0}], "an entry has no name"),
        ([{"name": "distill", "on": ["replayed"]}], "distillation on replayed rows needs rows that are replayed"),
        ([{"name": "distill", "on": ["replayed"]}, "replay"], "distillation on replayed rows needs rows"),
    ],
)
def test_lists_that_mean_nothing_are_refused(toy, tmp_path, protect, what):
    with pytest.raises(InputError, match=what):
        toy.learn(tmp_path, protect=protect)


def test_ewc_without_past_rows_holds_nothing_and_says_so(toy, tmp_path):
    trained = toy.learn(tmp_path, memory=(), protect=["ewc"])
    assert any("nothing is held" in note for note in trained.notes)


def test_distillation_on_replayed_rows_keeps_more_than_replay_alone(toy, run, tmp_path):
    both = toy.learn(tmp_path, protect=["replay", {"name": "distill", "on": ["replayed"], "weight": 1.0}])
    assert toy.loss(weights_of(both), "paint") < toy.loss(weights_of(run("replay", 0)), "paint") - 0.3


def test_the_first_increment_has_nothing_to_replay(toy, tmp_path):
    trained = toy.learn(tmp_path, memory=(), protect="auto", train={"max_steps": 2})
    assert not any("replay" in note for note in trained.notes)
    assert any(note.startswith("distill") for note in trained.notes)
    trained = toy.learn(tmp_path, protect="auto", train={"max_steps": 3})
    assert any(note.startswith("replay: 20% of every batch from 48 rows") for note in trained.notes)


def test_replay_takes_a_given_number_of_rows_evenly_over_the_tasks(toy, tmp_path):
    protect = [{"name": "replay", "samples": 20}]
    trained = toy.learn(tmp_path, memory=("paint", "place"), protect=protect, train={"max_steps": 1})
    assert "replay: 20% of every batch from 20 rows of past tasks (paint 10, place 10)" in trained.notes
