"""The budget's controller steers the protections by rows that are watched and not trained on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from train_kit import tensors

from nacre.model.chat import IGNORED, encode
from nacre.model.load import load_model
from nacre.train.budget import HIGHEST, LARGEST_PART, LOWEST, WATCHED, Controller, beyond, set_aside
from nacre.train.drift import Drift
from nacre.train.observe import watch
from nacre.train.protect.base import Protection
from toy_kit import weights_of

REPLAY = [{"name": "replay", "share": 0.25}]


class Steered(Protection):
    name = "steered"

    def __init__(self):
        self.notes = []

    def gradient(self, model, step):
        """Only its presence counts."""


class Afterwards(Steered):
    """Acts on rows alone: nothing can be steered while training."""

    gradient = Protection.gradient


class Fixed(Steered):
    """Acts while training, but there is no more or less of it."""

    steered = False


def log_of(trained):
    return [json.loads(line) for line in (trained.folder / "trainer_log.jsonl").read_text().splitlines()]


def watched_drops(trained):
    return [entry["watched_drop/paint"] for entry in log_of(trained) if "watched_drop/paint" in entry]


def scales(trained):
    return [entry["protection_scale"] for entry in log_of(trained) if "protection_scale" in entry]


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Learn `feed` with a little replay, bearing a given loss of `paint`."""
    made = {}

    def run(limit):
        if limit not in made:
            job = {"max_drop": {"paint": limit, "feed": limit}} if limit is not None else {}
            made[limit] = toy.learn(tmp_path_factory.mktemp("budget"), protect=REPLAY, job=job)
        return made[limit]

    return run


def test_the_same_rows_are_watched_whatever_their_order_and_none_of_them_is_replayed(toy):
    rows = {"paint": toy.tasks["paint"], "feed": toy.tasks["feed"][:3]}
    kept, watched = set_aside(rows)
    assert {row.content_id for row in watched["paint"]}.isdisjoint(row.content_id for row in kept["paint"])
    assert len(watched["paint"]) == min(WATCHED, len(rows["paint"]) // LARGEST_PART)
    assert "feed" not in watched  # an eighth of three rows is none
    assert len(kept["feed"]) == 3
    _, other = set_aside({"paint": rows["paint"][::-1]})
    assert other["paint"] == watched["paint"]


def test_beyond_the_budget_protection_grows_and_more_is_kept(run, toy):
    strict = run(0.0)
    assert max(scales(strict)) > 1.1
    assert max(scales(strict)) <= HIGHEST
    assert toy.loss(weights_of(strict), "paint") < toy.loss(weights_of(run(None)), "paint")
    assert any("paint was beyond its budget by up to" in note for note in strict.notes)


def test_with_slack_protection_shrinks_to_its_bound(run):
    easy = run(1.0)
    assert scales(easy)[-1] == pytest.approx(LOWEST)
    assert any("no watched task fell beyond its budget" in note for note in easy.notes)


def test_the_drops_are_logged_as_a_curve_and_without_a_budget_nothing_is_watched(run):
    drops = watched_drops(run(0.0))
    assert len(drops) >= 8
    assert max(drops) > 0.05, "the toy must forget, or nothing is shown"
    assert not watched_drops(run(None))
    assert any("42 rows of past tasks" in note for note in run(0.0).notes if note.startswith("replay"))
    assert any("48 rows of past tasks" in note for note in run(None).notes if note.startswith("replay"))


def test_a_new_task_is_not_trained_on_the_rows_that_later_runs_watch(toy, tmp_path):
    rows = toy.tasks["feed"]
    with_budget = watch(toy.job(tmp_path, task="feed", memory=(), protect=REPLAY))[0]
    assert list(with_budget.new) == list(rows), "no budget, nothing is set aside"
    job, watched = watch(replace(toy.job(tmp_path, task="feed", protect=REPLAY), max_drop={"feed": 0.02}))
    later = toy.job(tmp_path, memory=("feed",), protect=REPLAY)
    _, watched_later = watch(replace(later, max_drop={"feed": 0.02}))
    assert not watched
    assert len(job.new) == 42
    assert {row.content_id for row in watched_later["feed"]}.isdisjoint(row.content_id for row in job.new)


def test_noise_does_not_count():
    assert beyond([0.1, 0.1, 0.1, 0.1], 0.02) == pytest.approx(0.08)
    assert beyond([0.5, -0.3, 0.4, -0.4], 0.02) == 0.0
    assert beyond([-0.1, -0.1], 0.02) == pytest.approx(-0.12)


def test_without_a_drop_of_the_weights_nothing_is_steered(toy, monkeypatch):
    controller = Controller([Steered()], {"paint": toy.tasks["paint"][:8]}, {"paint": 0.02}, toy.tokenizer, 64)
    model = load_model(toy.base, train=True)
    state = SimpleNamespace(max_steps=10, global_step=1, log_history=[])
    controller.on_train_begin(None, state, None, model=model)
    controller.on_step_end(None, state, None, model=model)
    assert model.training
    assert state.log_history[0]["watched_drop/paint"] == 0.0
    assert LOWEST < controller.steered[0].scale < 1, "0.02 of slack lowers it a little"


def test_only_what_acts_while_training_is_steered(toy):
    acting = [Steered(), Afterwards(), Fixed()]
    controller = Controller(acting, {"paint": toy.tasks["paint"][:8]}, {}, toy.tokenizer, 64)
    controller.set_scale(2.0)
    assert [one.scale for one in controller.steered] == [2.0]


@pytest.mark.parametrize(
    "options",
    [
        {"protect": "none"},
        {"protect": ["average"]},
        {"protect": [{"name": "freeze", "first": 1}]},
        {"protect": ["osf"]},
        {"protect": ["agem"]},
        {"protect": ["separate", "replay"], "tune": "lora"},
        {"protect": REPLAY, "train": {"stage": "rm"}},
        {"protect": REPLAY, "train": {"sharding": "fsdp2"}},
    ],
    ids=str,
)
def test_where_nothing_can_be_steered_no_row_is_set_aside(toy, tmp_path, options):
    job = replace(toy.job(tmp_path, **options), max_drop={"paint": 0.02, "feed": 0.02})
    assert watch(job) == (job, {})


def test_what_auto_stands_for_is_steered(toy, tmp_path):
    job = replace(toy.job(tmp_path, protect="auto"), max_drop={"paint": 0.02})
    assert len(watch(job)[1]["paint"]) == 6


def test_the_worst_that_was_seen_outlives_a_checkpoint(toy):
    watched = {"feed": toy.tasks["feed"][:2], "paint": toy.tasks["paint"][:2]}
    first, second = (Controller([Steered()], watched, {}, toy.tokenizer, 64) for _ in range(2))
    first.on_train_begin(None, None, None, model=load_model(toy.base, train=True))
    first._worst = (0.25, "paint")
    second.restore(first.state())
    assert "paint was beyond its budget by up to 0.25" in second.notes()[0]


def test_a_resumed_run_goes_on_with_the_scale_it_had(toy):
    watched = {"paint": toy.tasks["paint"][:8]}
    first = Controller([Steered()], watched, {}, toy.tokenizer, 64)
    first.on_train_begin(None, None, None, model=load_model(toy.base, train=True))
    first.set_scale(3.0)
    second = Controller([Steered()], watched, {}, toy.tokenizer, 64)
    second.restore(first.state())
    assert second.steered[0].scale == second.scale == 3.0
    second.on_train_begin(None, None, None, model=None)  # measures nothing anew
    assert second.state()["numbers"].tolist() == first.state()["numbers"].tolist()


def test_drift_is_the_divergence_on_new_rows(toy, run):
    rows = toy.tasks["feed"]
    before, after = load_model(toy.base), load_model(weights_of(run(None)))
    drift = Drift(toy.tokenizer, rows, 64)
    drift.begin(before)
    assert drift.measure(before) == pytest.approx(0.0, abs=1e-6)
    total, tokens = 0.0, 0
    for row in sorted(rows, key=lambda row: row.content_id)[:32]:
        encoded = encode(row, toy.tokenizer, 64)
        ids = torch.tensor([encoded.input_ids])
        old, new = (model(ids).logits[0].log_softmax(-1) for model in (before, after))
        for place, label in enumerate(encoded.labels[1:]):
            if label != IGNORED:
                total += float((old[place].exp() * (old[place] - new[place])).sum())
                tokens += 1
    assert drift.measure(after) == pytest.approx(total / tokens, rel=1e-4)
    assert run(None).drift == pytest.approx(total / tokens, rel=1e-4)
    assert any(note.startswith("drift: KL") for note in run(None).notes)


def test_watching_changes_nothing_while_the_scale_is_one(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("nacre.train.budget.RATE", 0.0)
    job = toy.job(tmp_path, protect=REPLAY, train={"max_steps": 4})
    kept, _ = set_aside(job.memory)
    alone = toy.learn(tmp_path / "alone", protect=REPLAY, train={"max_steps": 4}, job={"memory": kept})
    steered = toy.learn(tmp_path / "steered", protect=REPLAY, train={"max_steps": 4}, job={"max_drop": {"paint": 0.0}})
    one, other = tensors(alone), tensors(steered)
    assert all(torch.equal(one[name], other[name]) for name in one)
