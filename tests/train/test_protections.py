"""The contract of every protection in the table: a new one is tested by being there."""

import json
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
FITTING = {"distill": {"weight": 1.0}, "ewc": {"strength": 1e8}, "l2": {"strength": 0.5}, "lm": {"weight": 1.0}}
FITTING |= {
    "average": {"alpha": 0.6},
    "freeze": {"last": 1},
    "intruder": {"keep": 0.1},
    "block-expansion": {"blocks": 2},
}
# Tuner and settings for those that do not work with full tuning, or that learn at another rate.
LORA = {"tune": "lora", "train": {"learning_rate": 1e-2}}
SETTINGS = {"intruder": LORA, "orthogonal": LORA, "osf": {"train": {"learning_rate": 1.5e-2}}}
# Those that keep no more of past answers by themselves: they change the weights, and say what they are good for.
NOT_BETTER_THAN_PLAIN = {
    "block-expansion": "new blocks that learn as much change the old answers as much",
    "orthogonal": "test_weight_protections.py has it; other input directions do not keep the old outputs",
}
# Those that do nothing alone, and what stands before them in the list.
BESIDE = {"der": ["replay"]}
# Those that only look on in the first increment under them; test_gradient_protections.py asks the same of the second.
SECOND_INCREMENT = {"si", "orthogonal"}
# Those that refuse a toy that knows one task and nothing else: test_sdft.py makes one that reads.
OTHER_TOY = {"sdft"}
# Those under which the same is learned, and another adapter answers: test_separate.py has their contract.
APART = {"separate"}
HERE = [name for name in PROTECTIONS.names() if name not in OTHER_TOY | APART]
AT_ONCE = [name for name in HERE if name not in SECOND_INCREMENT]


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Teach the toy a second task under a protection (or none); each run is made once."""

    general = tmp_path_factory.mktemp("general") / "rows.jsonl"
    alpaca = [{"instruction": row.prompt[0].content, "output": row.answer} for row in toy.tasks["paint"]]
    general.write_text("".join(f"{json.dumps(row)}\n" for row in alpaca))
    fitting = {**FITTING, "general": {"file": str(general)}}

    @cache
    def run(name: str, seed: int, again: bool = False, like: str = ""):
        protect = [*BESIDE.get(name, []), {"name": name, **fitting.get(name, {})}] if name != "none" else "none"
        given = SETTINGS.get(like or name, {})
        settings = {**given, "train": {**given.get("train", {}), "seed": seed}}
        return toy.learn(tmp_path_factory.mktemp(name), protect=protect, **settings)

    return run


def plain_of(name: str) -> str:
    """Whose settings plain training must have to be compared with: where an adapter trains, one must train there."""
    return name if "tune" in SETTINGS.get(name, {}) else ""


@pytest.mark.parametrize("name", HERE)
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


@pytest.mark.parametrize("name", AT_ONCE)
def test_it_changes_what_is_learned_and_does_so_every_time(name, run):
    plain, protected, again = (
        tensors(one) for one in (run("none", 0, like=plain_of(name)), run(name, 0), run(name, 0, again=True))
    )
    assert max(float((plain[key] - protected[key]).abs().max()) for key in plain) > 1e-3
    assert all(torch.equal(protected[key], again[key]) for key in protected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AT_ONCE if name not in NOT_BETTER_THAN_PLAIN])
def test_it_keeps_more_of_the_old_task_than_plain_training_and_still_learns_the_new_one(name, run, toy):
    def losses(name: str, task: str, like: str = "") -> list[float]:
        return [toy.loss(weights_of(run(name, seed, like=like), toy.base), task) for seed in SEEDS]

    forgotten, kept = losses("none", "paint", plain_of(name)), losses(name, "paint")
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
        (["si", "mofo"], "'si' and 'mofo' contradict each other: si must see the step that is really made"),
        (["mofo", "si"], "'si' and 'mofo' contradict each other: si must see the step that is really made"),
    ],
)
def test_lists_that_mean_nothing_are_refused(toy, tmp_path, protect, what):
    with pytest.raises(InputError, match=what):
        toy.learn(tmp_path, protect=protect)


def test_distillation_on_replayed_rows_keeps_more_than_replay_alone(toy, run, tmp_path):
    both = toy.learn(tmp_path, protect=["replay", {"name": "distill", "on": ["replayed"], "weight": 1.0}])
    assert toy.loss(weights_of(both), "paint") < toy.loss(weights_of(run("replay", 0)), "paint") - 0.3


def test_dark_experience_keeps_more_than_replay_alone(toy, run):
    assert toy.loss(weights_of(run("der", 0)), "paint") < toy.loss(weights_of(run("replay", 0)), "paint") - 0.3


def test_the_first_increment_has_nothing_to_replay(toy, tmp_path):
    trained = toy.learn(tmp_path, memory=(), protect="auto", train={"max_steps": 2})
    assert not any("replay" in note for note in trained.notes)
    assert any(note.startswith("distill") for note in trained.notes)
    trained = toy.learn(tmp_path, protect="auto", train={"max_steps": 3})
    assert any(note.startswith("replay: 25% of every batch from 48 rows") for note in trained.notes)


def test_replay_takes_a_given_number_of_rows_evenly_over_the_tasks(toy, tmp_path):
    protect = [{"name": "replay", "samples": 20, "per_class": 0}]
    trained = toy.learn(tmp_path, memory=("paint", "place"), protect=protect, train={"max_steps": 1})
    assert "replay: 20% of every batch from 20 rows of past tasks (paint 10, place 10)" in trained.notes
