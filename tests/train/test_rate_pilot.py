"""The learning rate by trial."""

from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from nacre.base.errors import InputError, NacreError
from nacre.records import Train
from nacre.records.tune import TUNERS, Tune
from nacre.train import rate_pilot
from nacre.train.auto import learning_rate, settle
from nacre.train.job import Trained
from nacre.train.rate_pilot import choose, piloted, split
from nacre.train.run import train
from toy_kit import ask


def test_the_lowest_rate_within_one_per_cent_of_the_best_is_chosen():
    assert choose({1e-4: 2.0, 3e-4: 1.009, 1e-3: 1.0, 3e-3: 1.5}) == 3e-4
    assert choose({1e-4: 2.0, 3e-4: 1.02, 1e-3: 1.0, 3e-3: 1.5}) == 1e-3
    assert choose({1e-4: float("inf"), 1e-3: 1.0}) == 1e-3


def test_a_tenth_but_at_least_64_rows_are_tried_and_others_judge():
    rows = [ask(f"paint {place}", "red") for place in range(2000)]
    training, held_out = split(rows, 0)
    assert (len(training), len(held_out)) == (200, 64)
    assert not {row.content_id for row in training} & {row.content_id for row in held_out}
    few, judges = split(rows[:40], 0)
    assert (len(few), len(judges)) == (30, 10)
    repeated, others = split(rows[:40] * 3, 0)
    assert not {row.content_id for row in repeated} & {row.content_id for row in others}, "a row that comes thrice"
    with pytest.raises(InputError, match="too few rows"):
        split(rows[:3] * 2, 0)


def test_the_gates_rows_do_not_decide(landscape, monkeypatch):
    job, pretend, _ = landscape(lambda rate: abs(rate - 2e-3) + 1)
    judged = []
    monkeypatch.setattr(rate_pilot, "_mean_loss", lambda weights, tokenizer, rows, length: judged.extend(rows) or 1.0)
    piloted(replace(job, dev=job.new[:8], new=job.new[8:]), pretend)
    assert judged
    assert not {row.content_id for row in judged} & {row.content_id for row in job.new[:8]}


def test_every_tuner_has_an_automatic_rate_that_falls_with_size():
    read = TypeAdapter(Tune).validate_python
    for name in TUNERS:
        rates = [learning_rate(read(name), 10**power) for power in range(6, 12)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] >= learning_rate(read("full"), 10**6)
    assert learning_rate(read("prompt"), 10**9) > 20 * learning_rate(read("lora"), 10**9)
    assert learning_rate(read({"name": "lora", "lr_ratio": 8}), 7 * 10**9) == 5e-5


@pytest.fixture
def landscape(toy, tmp_path, monkeypatch):
    """A job whose trials are not trained: the loss is a function of the rate."""

    def make(loss):
        rates = []

        def pretend(job) -> Trained:
            rates.append(job.recipe.train.learning_rate)
            if loss(rates[-1]) is None:
                raise NacreError("training diverged: some weights are no finite numbers")
            assert job.recipe.protect == ()
            return Trained(job.work, "full", job.recipe, 1, 0.0, 0, 0.0, ())

        monkeypatch.setattr(rate_pilot, "_mean_loss", lambda *_: loss(rates[-1]))
        return toy.job(tmp_path, train={"learning_rate": "pilot"}, protect=["replay"]), pretend, rates

    return make


def test_the_rates_lie_half_a_decade_apart_around_the_automatic_one(landscape):
    job, pretend, rates = landscape(lambda rate: abs(rate - 2e-3) + 1)
    settled, notes = piloted(job, pretend)
    centre = learning_rate(job.recipe.tune, 20832)
    assert sorted(rates) == pytest.approx([centre * 10 ** (k / 2) for k in (-2, -1, 0, 1, 2)], rel=0.05)
    assert settled.recipe.train.learning_rate in rates
    assert settled.recipe.protect == job.recipe.protect
    assert notes[0].count(":") == 1 + 5
    assert "the lowest within 1% of the best validation loss on" in notes[0]


def test_the_note_tells_how_long_the_trials_were_also_after_a_cut(landscape):
    job, pretend, rates = landscape(lambda rate: abs(rate - 2e-3) + 1)

    def seven(trial) -> Trained:
        return replace(pretend(trial), steps=7)

    assert "rows after 7 steps on 36 (" in piloted(job, seven)[1][0]
    tried = len(rates)
    assert "rows after 7 steps on 36 (" in piloted(job, pretend)[1][0]
    assert len(rates) == tried, "it was remembered"


def test_passes_that_max_steps_cuts_are_not_told_as_chosen_for_the_rows():
    auto, tune = Train(learning_rate=1e-3), TypeAdapter(Tune).validate_python("lora")
    (whole,) = settle(auto, tune, 700_000, 48)[1]
    (cut,) = settle(auto.model_copy(update={"max_steps": 4}), tune, 700_000, 48)[1]
    assert whole == "epochs 10: chosen for 48 rows in batches of 16"
    assert cut == "epochs 10: chosen for 48 rows in batches of 16, but cut by max_steps 4"
    roomy = auto.model_copy(update={"max_steps": 30})
    assert settle(roomy, tune, 700_000, 48)[1] == [whole]


def test_the_search_goes_on_where_the_best_lies_at_an_end(landscape):
    job, pretend, rates = landscape(lambda rate: 10 - rate)
    piloted(job, pretend)
    assert len(rates) == 7
    job, pretend, rates = landscape(lambda rate: 1 + rate)
    piloted(job.__class__(**{**job.__dict__, "work": job.work / "other"}), pretend)
    assert min(rates) == pytest.approx(2e-5, rel=0.05)


def test_a_rate_that_diverges_is_never_chosen_and_all_of_them_are_an_error(landscape):
    job, pretend, _ = landscape(lambda rate: None if rate > 1e-3 else 2.0)
    settled, _ = piloted(job, pretend)
    assert settled.recipe.train.learning_rate < 1e-3
    job, pretend, _ = landscape(lambda rate: None)
    with pytest.raises(NacreError, match="diverged at every rate"):
        piloted(replace(job, work=job.work / "other"), pretend)


def test_trials_report_nowhere_and_take_all_rows_in_one_heap(landscape):
    asked = {"learning_rate": "pilot", "report_to": ["tensorboard"], "early_stopping": 2, "curriculum": "parts"}
    job, _, _ = landscape(lambda rate: 1 + rate)
    job = replace(job, recipe=job.recipe.model_copy(update={"train": job.recipe.train.model_validate(asked)}))
    seen = []

    def pretend(trial) -> Trained:
        seen.append(trial.recipe.train)
        raise NacreError("training diverged")

    with pytest.raises(NacreError, match="diverged at every rate"):
        piloted(job, pretend)
    for settings in seen:
        assert settings.report_to == ()
        assert settings.early_stopping is None
        assert (settings.mix, settings.curriculum) == ({}, "none")


def test_stages_without_an_answers_loss_are_refused(toy, tmp_path):
    with pytest.raises(InputError, match="pilot compares answers' losses, which stage dpo has not"):
        toy.learn(tmp_path, train={"learning_rate": "pilot", "stage": "dpo"})


@pytest.mark.slow
def test_a_pilot_ends_in_a_training_that_knows_nothing_of_it(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_pilot, "STEPS", 6)
    settings = {"learning_rate": "pilot", "max_steps": 4}
    first = toy.learn(tmp_path / "a", train=settings)
    rate = first.recipe.train.learning_rate
    assert isinstance(rate, float)
    assert first.notes[0].startswith(f"learning rate {rate:g}: the lowest")
    assert "rows after 4 steps on" in first.notes[0]
    assert not (tmp_path / "a" / "run" / "rate-pilot").exists()
    plain = toy.learn(tmp_path / "b", train=settings | {"learning_rate": rate})
    assert plain.final_loss == first.final_loss
    monkeypatch.setattr(rate_pilot, "_try_rates", None)
    again = train(toy.job(tmp_path / "a", train=settings))
    assert again.recipe.train.learning_rate == rate, "what was tried before a run was cut is not tried again"
