"""Held-out rows while training: what is logged, who decides by them; noise on the embeddings; other optimizers."""

import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from train_kit import Bomb, furthest, tensors

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.train.rows import Prepared
from nacre.train.run import train
from nacre.train.validation import MAX_ROWS, Validation, set_aside, some_dev_rows
from toy_kit import judge, prefer, task_rows, weights_of

STEADY = {"scheduler": "constant", "warmup": 0, "learning_rate": 1e-3, "logging_steps": 1}


def log_of(trained):
    return [json.loads(line) for line in (trained.folder / "trainer_log.jsonl").read_text().splitlines()]


def loss_of(weights, tokenizer, rows) -> float:
    found = answer_losses(load_model(weights), tokenizer, rows, 64)
    return sum(one.nll for one in found) / sum(one.tokens for one in found)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_dev_rows_are_looked_at_after_each_pass_and_never_trained_on(tune, toy, tmp_path):
    job = toy.job(tmp_path / "with", tune=tune, train=STEADY | {"epochs": 3.0})
    dev, job = job.new[:12], replace(job, new=job.new[12:])
    watched = train(replace(job, dev=dev))
    unwatched = train(replace(job, work=tmp_path / "without"))
    assert furthest(tensors(watched), tensors(unwatched)) < 1e-6
    looks = [entry for entry in log_of(watched) if "eval_loss" in entry]
    assert [entry["step"] for entry in looks] == [5, 10, 14]
    assert looks[-1]["eval_loss"] == pytest.approx(loss_of(weights_of(watched, toy.base), toy.tokenizer, dev), abs=1e-4)
    assert looks[-1]["eval_loss"] < looks[0]["eval_loss"]
    assert not any("eval_loss" in entry for entry in log_of(unwatched))


@pytest.mark.parametrize(("asked", "every"), [("epoch", 6), (None, 20), (7, 7)])
def test_a_look_after_every_pass_can_be_asked_for(asked, every, toy, tmp_path):
    job = toy.job(tmp_path, train={"epochs": 10.0, "eval_steps": asked})
    told = Validation(job, (), ())
    told.tables = {"eval": None}
    table = Dataset.from_dict({"source": [0] * 48})
    prepared = Prepared(table, list(range(48)) * 10, 60, [], "")
    assert [one.steps for one in told.callbacks(tmp_path, prepared)] == [every]


def test_validation_may_come_oftener_and_uneven_batches_count_by_their_tokens(toy, tmp_path):
    job = toy.job(tmp_path, train=STEADY | {"max_steps": 5, "eval_steps": 2, "batch_size": 5})
    longer = [row.changed(answers=(row.answers[0].changed(content="red red green"),)) for row in job.new[:4]]
    dev = [*longer, *job.new[4:11]]
    trained = train(replace(job, new=job.new[11:], dev=dev))
    looks = {entry["step"]: entry["eval_loss"] for entry in log_of(trained) if "eval_loss" in entry}
    assert list(looks) == [2, 4, 5]
    assert looks[5] == pytest.approx(loss_of(weights_of(trained), toy.tokenizer, dev), abs=1e-5)


@pytest.mark.parametrize(("stage", "make"), [("dpo", prefer), ("kto", judge), ("rm", prefer)])
def test_the_other_stages_log_their_own_loss_on_dev_rows(stage, make, toy, tmp_path):
    job = toy.job(tmp_path, train=STEADY | {"stage": stage, "epochs": 4.0, "learning_rate": 1e-2})
    rows = make(job.new)
    trained = train(replace(job, new=rows[16:], dev=rows[:16]))
    looks = [entry["eval_loss"] for entry in log_of(trained) if "eval_loss" in entry]
    assert len(looks) == 3
    assert min(looks[1:]) < looks[0]


def test_at_most_so_many_dev_rows_are_looked_at_and_always_the_same():
    rows = [row.changed(system=str(number)) for number in range(10) for row in task_rows("feed")]
    chosen = some_dev_rows(rows)
    assert len(chosen) == MAX_ROWS
    assert chosen == some_dev_rows(rows[::-1])


# -- early stopping ----------------------------------------------------------------------------------------------

HOPELESS = STEADY | {"epochs": 30.0, "early_stopping": 2, "learning_rate": 2e-2, "eval_steps": 4, "save_steps": 4}


def random_labels(toy):
    """Rows whose answers follow no rule: what is learned of some of them is wrong on the others."""
    rows = toy.tasks["feed"]
    return [row.changed(answers=other.answers) for row, other in zip(rows, [*rows[7:], *rows[:7]], strict=True)]


@pytest.fixture(scope="module")
def stopped(toy, tmp_path_factory):
    job = toy.job(tmp_path_factory.mktemp("stopped"), train=HOPELESS)
    return train(replace(job, new=random_labels(toy)))


def test_training_stops_when_the_loss_on_rows_set_aside_rises_and_gives_back_the_best_weights(toy, stopped):
    looks = {e["step"]: e["eval_held_out_loss"] for e in log_of(stopped) if "eval_held_out_loss" in e}
    best = min(looks, key=looks.get)
    assert max(looks) == best + 2 * 4, "two validations without a better one"
    assert stopped.steps == max(looks) < 120
    held = set_aside(random_labels(toy))[1]
    assert loss_of(weights_of(stopped), toy.tokenizer, held) == pytest.approx(looks[best], abs=1e-5)
    assert looks[max(looks)] > looks[best] + 0.01
    note = next(note for note in stopped.notes if "stopped after" in note)
    assert f"those of step {best}" in note
    assert any("16 of 48 train rows are not trained on" in note for note in stopped.notes)


def test_a_run_that_was_killed_stops_where_an_unbroken_one_does(toy, stopped, bomb, tmp_path):
    job = toy.job(tmp_path, train=HOPELESS, protect=["bomb"])
    job = replace(job, new=random_labels(toy))
    Bomb.at = stopped.steps - 2
    with pytest.raises(KeyboardInterrupt):
        train(job)
    Bomb.at = None
    resumed = train(job)
    assert any(note.startswith("resumed from checkpoint-") for note in resumed.notes)
    assert resumed.steps == stopped.steps
    assert furthest(tensors(resumed), tensors(stopped)) < 1e-6


def test_what_is_set_aside_is_not_trained_on_in_any_copy(toy):
    rows = [*toy.tasks["feed"], *toy.tasks["feed"]]
    kept, held, said = set_aside(rows)
    assert len(held) == 16
    assert len(kept) == 64
    assert not {row.content_id for row in held} & {row.content_id for row in kept}
    assert "16 of 96" in said


def test_too_few_rows_to_stop_by_are_refused(toy, tmp_path):
    job = toy.job(tmp_path, train={"early_stopping": 1})
    with pytest.raises(InputError, match="needs 16 rows"):
        train(replace(job, new=job.new[:31]))


def test_weights_of_other_ranks_are_not_kept_to_be_restored(toy, tmp_path):
    with pytest.raises(InputError, match="adalora gives up ranks while it trains"):
        toy.learn(tmp_path, tune="adalora", train={"early_stopping": 1})


# -- noise, optimizer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["sft", "dpo", "rm"])
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_noise_on_the_embeddings_acts_while_training_alone(tune, stage, toy, tmp_path):
    found = {}
    for alpha in (None, 5.0):
        job = toy.job(
            tmp_path / str(alpha), tune=tune, train=STEADY | {"stage": stage, "max_steps": 3, "neftune_alpha": alpha}
        )
        rows = prefer(job.new) if stage != "sft" else job.new
        found[alpha] = train(replace(job, new=rows[8:], dev=rows[:8]))
    assert furthest(tensors(found[None]), tensors(found[5.0])) > 1e-5
    assert tensors(found[None]).keys() == tensors(found[5.0]).keys()
    if stage == "sft":
        looks = [entry["eval_loss"] for entry in log_of(found[5.0]) if "eval_loss" in entry]
        dev = toy.tasks["feed"][:8]
        assert looks[-1] == pytest.approx(loss_of(weights_of(found[5.0], toy.base), toy.tokenizer, dev), abs=1e-5)


def test_an_optimizer_by_name(toy, tmp_path):
    def trained(name):
        return tensors(toy.learn(tmp_path / str(name), train=STEADY | {"max_steps": 2, "optimizer": name}))

    assert furthest(trained("sgd"), trained(None)) > 1e-4
    with pytest.raises(InputError, match="unknown optimizer 'adafacto'") as caught:
        trained("adafacto")
    with pytest.raises(InputError, match="galore_adamw is not supported"):
        trained("galore_adamw")
    assert "adafactor" in caught.value.fix
    assert torch.is_grad_enabled()
