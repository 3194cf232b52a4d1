"""Curves that people know, and the sentence each must get."""

import pytest

from nacre.base.errors import InputError
from nacre.model.load import load_tokenizer
from nacre.records import Recipe
from nacre.train import observe
from nacre.train.diagnose import Seen, findings
from nacre.train.estimate import size
from nacre.train.memory import Change, relief


def log(losses, held_out=(), norms=()):
    entries = [{"step": 10 * (k + 1), "loss": loss} for k, loss in enumerate(losses)]
    for entry, norm in zip(entries, norms, strict=False):
        entry["grad_norm"] = norm
    every = max(1, len(losses) // max(len(held_out), 1))
    return entries + [{"step": 10 * every * (k + 1), "eval_loss": loss} for k, loss in enumerate(held_out)]


def seen(history, rows=2_000, tune="full", **memory):
    return Seen(history, Recipe.model_validate({"tune": tune, "train": {"learning_rate": 1e-3}}), rows, **memory)


HEALTHY = [2.0, 1.2, 0.8, 0.6, 0.5, 0.45, 0.42, 0.4]


def test_a_healthy_run_gets_no_advice():
    assert findings(seen(log(HEALTHY, held_out=[0.8, 0.5, 0.43], norms=[0.5] * 8))) == []
    assert findings(seen([])) == []


@pytest.mark.parametrize(
    ("history", "begins", "advice"),
    [
        (log([2, 1, 0.9, 1.6, 0.7, 1.5, 0.8, 1.7, 0.9]), "the loss swings", "lower train.learning_rate (0.001 now)"),
        (log(HEALTHY, held_out=[0.7, 0.42, 0.6]), "held-out loss rose from 0.420 at step", "train.early_stopping"),
        (log(HEALTHY, held_out=[0.8, 0.47]), "held-out loss 0.470 is 0.070 above", "more varied rows"),
        (log(HEALTHY, norms=[3, 2, 4, 5, 3, 3, 2, 4]), "the gradient's norm is 3.00", "a longer train.warmup"),
        (log([2, 1.8, 1.6, 1.5], norms=[0.01] * 4), "the gradient's norm is 0.010", "a higher train.learning_rate"),
        (log([2.0, 1.95, 1.94, 1.93]), "the new rows were hardly learned: loss 2.00", "a higher train.learning_rate"),
    ],
)
def test_each_curve_gets_its_finding_with_figures_and_advice(history, begins, advice):
    found = findings(seen(history))
    assert [one for one in found if one.startswith(begins) and advice in one], found


def test_few_rows_and_a_small_adapter_are_named_where_little_was_learned():
    (found,) = findings(seen(log([2.0, 1.95, 1.94, 1.93]), rows=120, tune="lora"))
    assert "more rows (120 now, about 1,000 are advised)" in found
    assert "a larger tune.rank" in found


def test_dropout_is_advised_only_where_there_is_such_a_setting():
    history = log(HEALTHY, held_out=[0.7, 0.42, 0.6])
    assert "tune.dropout" not in findings(seen(history))[0]
    assert "tune.dropout" not in findings(seen(history, tune="freeze"))[0]
    assert "tune.dropout" not in findings(seen(history, tune="ia3"))[0]
    assert "tune.dropout 0.1 to 0.3" in findings(seen(history, tune="lora"))[0]
    assert "tune.dropout 0.1 to 0.3" in findings(seen(history, tune="oft"))[0]


FULL = {"memory_used_bytes": 23 * 2**30, "memory_total_bytes": 24 * 2**30}


def test_a_nearly_full_device_is_named_with_what_each_change_saves():
    asked = []

    def changes(too_much):
        asked.append(too_much)
        recipe = Recipe()
        return [
            Change("accumulation 4", recipe, 0.5 * 2**30, fits=False),
            Change("gradient_checkpointing", recipe, 6 * 2**30, fits=True),
            Change("max_length 512, which cuts long rows,", recipe, 3 * 2**30, fits=True),
            Change("precision bf16", recipe, 2 * 2**30, fits=True),
            Change("tune lora", recipe, 9 * 2**30, fits=True),
        ]

    assert findings(seen(log(HEALTHY), **FULL, changes=changes)) == [
        "memory is nearly full: 23.0 GiB of 24.0 GiB; with 1.4 GiB less a tenth would be free. By estimate, the "
        "cheapest first: train.accumulation 4 saves 0.5 GiB, train.gradient_checkpointing saves 6.0 GiB, "
        "train.max_length 512, which cuts long rows, saves 3.0 GiB, train.precision bf16 saves 2.0 GiB, "
        "tune lora saves 9.0 GiB"
    ]
    assert asked == [pytest.approx(1.4 * 2**30)]
    spacious = {"memory_used_bytes": 2 * 2**30, "memory_total_bytes": 24 * 2**30}
    assert not findings(seen(log(HEALTHY), **spacious, changes=changes))
    assert len(asked) == 1, "nothing is estimated where there is room"


def test_a_nearly_full_device_that_no_setting_relieves_asks_for_another():
    (found,) = findings(seen(log(HEALTHY), **FULL, changes=lambda _: []))
    assert found.endswith("no change of settings saves memory: a smaller model, or a larger machine")


def refuse(_):
    raise InputError("this tuner does not fit the model")


@pytest.mark.parametrize("changes", [None, refuse], ids=["none", "refused"])
def test_where_memory_cannot_be_estimated_the_changes_are_named_without_figures(changes):
    (found,) = findings(seen(log(HEALTHY), **FULL, changes=changes))
    assert found.endswith(
        "a tenth would be free: train.accumulation 2 (half the micro-batch), train.gradient_checkpointing, "
        "train.max_length 512, tune: lora"
    )


def test_a_run_that_nearly_fills_memory_ends_with_what_would_save_some(toy, tmp_path, monkeypatch):
    used, total = int(9.5 * 2**30), 10 * 2**30
    monkeypatch.setattr(observe, "_memory", lambda: (used, total))
    trained = toy.learn(tmp_path, train={"max_steps": 1, "precision": "fp32"})
    found = next(one for one in trained.findings if one.startswith("memory is nearly full"))
    assert "9.5 GiB of 10.0 GiB; with 0.5 GiB less a tenth would be free" in found
    job = toy.job(tmp_path / "again", train={"max_steps": 1, "precision": "fp32"})
    saving = relief(job, trained.recipe, load_tokenizer(job.start), 0.5 * 2**30)
    assert "accumulation 8" in [change.words for change in saving]
    assert all(f"{change.words} saves {size(change.saves_bytes)}" in found for change in saving)
