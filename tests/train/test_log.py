"""What the files of a run say of it: passes, the mean of the loss, seconds; also of a run that was resumed."""

import json
from pathlib import Path

import pytest

from nacre.train.log import LOG, write_results
from nacre.train.run import train

SLOW_LOG = {"save_steps": 3, "logging_steps": 4, "max_steps": 11}  # no checkpoint falls on a line of the log


def lines(folder: Path):
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def results(trained):
    write_results(trained.folder, trained.steps, trained.seconds, trained.final_loss)
    return json.loads((trained.folder / "all_results.json").read_text())


def state(folder: Path):
    return json.loads((folder / "trainer_state.json").read_text())


def test_epochs_are_passes_over_the_new_rows(toy, tmp_path):
    trained = toy.learn(tmp_path, train={"epochs": 3.0, "logging_steps": 3})
    assert [(one["step"], one["epoch"]) for one in lines(trained.folder)] == [(k, k / 6) for k in range(3, 19, 3)]
    assert state(trained.folder)["epoch"] == 3
    assert results(trained)["epoch"] == 3


def test_replayed_rows_are_not_passes_and_cut_runs_have_fewer(toy, tmp_path):
    half = [{"name": "replay", "share": 0.5}]
    mixed = toy.learn(tmp_path / "mixed", protect=half, train={"epochs": 2.0})
    assert mixed.steps > 12
    assert results(mixed)["epoch"] == pytest.approx(2, abs=0.17)
    cut = toy.learn(tmp_path / "cut", train={"epochs": 3.0, "max_steps": 9})
    assert results(cut)["epoch"] == 1.5


def test_the_last_steps_count_where_no_line_was_logged_for_them(toy, tmp_path):
    trained = toy.learn(tmp_path, train={"max_steps": 6, "logging_steps": 4})
    (line,) = lines(trained.folder)
    assert (line["current_steps"], line["total_steps"], line["percentage"]) == (4, 6, 66.67)
    assert state(trained.folder)["global_step"] == 6


def test_a_resumed_run_tells_of_all_its_parts(toy, bomb, tmp_path):
    def job(name):
        return toy.job(tmp_path / name, protect=["bomb"], train=SLOW_LOG)

    unbroken = train(job("whole"))
    bomb.at = 7
    with pytest.raises(KeyboardInterrupt):
        train(job("broken"))
    bomb.at = None
    resumed = train(job("broken"))
    assert "resumed from checkpoint-6" in resumed.notes
    whole, found = results(unbroken), results(resumed)
    assert found["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-4)
    assert found["epoch"] == whole["epoch"]
    ours, theirs = lines(resumed.folder), lines(unbroken.folder)
    assert [one["step"] for one in ours] == [one["step"] for one in theirs] == [3, 4, 6, 8, 9]
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["epoch"] == other["epoch"]
    assert found["train_runtime"] > ours[2]["elapsed_s"] > 0
    assert found["train_steps_per_second"] == pytest.approx(11 / found["train_runtime"], rel=0.01)
    assert found["train_samples_per_second"] == pytest.approx(88 / found["train_runtime"], rel=0.01)
    assert whole["train_samples_per_second"] == pytest.approx(88 / whole["train_runtime"], rel=0.01)


def test_a_run_that_was_killed_after_its_last_step_has_its_loss(toy, bomb, tmp_path, monkeypatch):
    job = toy.job(tmp_path, train=SLOW_LOG | {"max_steps": 6})
    with monkeypatch.context() as patched:
        patched.setattr("nacre.train.run._keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(job)
    resumed = train(job)
    assert "resumed from checkpoint-6" in resumed.notes
    unbroken = toy.learn(tmp_path / "whole", train=SLOW_LOG | {"max_steps": 6})
    found = results(resumed)
    assert found["train_loss"] == pytest.approx(results(unbroken)["train_loss"], rel=0.5)
    assert found["epoch"] == results(unbroken)["epoch"] == 1
    assert found["train_steps_per_second"] == pytest.approx(6 / found["train_runtime"], rel=0.01)
