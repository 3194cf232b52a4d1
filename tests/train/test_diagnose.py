"""Curves that people know, and the sentence each must get."""

import ast
import json
import re
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.cli.llamafactory import Arguments
from nacre.cycle.increment.folder import FolderJob, train_folder
from nacre.model.load import load_tokenizer
from nacre.records import Recipe
from nacre.train import diagnose, observe
from nacre.train.diagnose import NAMES, Seen, findings, in_arguments
from nacre.train.estimate import Device, Rows, size
from nacre.train.memory import Change, _candidates, relief


def log(losses, held_out=(), norms=()):
    entries = [{"step": 10 * (k + 1), "loss": loss} for k, loss in enumerate(losses)]
    for entry, norm in zip(entries, norms, strict=False):
        entry["grad_norm"] = norm
    every = max(1, len(losses) // max(len(held_out), 1))
    return entries + [{"step": 10 * every * (k + 1), "eval_loss": loss} for k, loss in enumerate(held_out)]


def seen(history, rows=2_000, tune="full", train=None, **memory):
    settings = {"learning_rate": 1e-3} | (train or {})
    return Seen(history, Recipe.model_validate({"tune": tune, "train": settings}), rows, **memory)


HEALTHY = [2.0, 1.2, 0.8, 0.6, 0.5, 0.45, 0.42, 0.4]
DIVERGED = [2, 2.5, 3, 4, 5, 6]


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
        (log(DIVERGED), "the loss rose from 2.00 to 6.00", "lower train.learning_rate (0.001 now)"),
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


STUCK = [4.40, 4.38, 4.42, 4.37]
BY_HEART = [2.0, 1.2, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2]


def test_where_nothing_was_learned_no_lower_rate_is_advised_and_no_gap_is_seen():
    found = findings(seen(log([4.30, 4.10, 4.32, 4.20], held_out=[4.369, 4.369], norms=[5, 4.88, 4.7, 5])))
    assert len(found) == 2
    assert found[0] == "the gradient's norm is 4.94 in the middle (0.1 to 1.0 is healthy) and is cut to 1"
    assert "hardly learned" in found[1]
    assert "a higher train.learning_rate" in found[1]
    weak = findings(seen(log(STUCK, norms=[0.01] * 4)))
    assert weak[0].startswith("the gradient's norm is 0.010 in the middle (0.1 to 1.0 is healthy) while the loss is")
    assert sum("a higher train.learning_rate" in one for one in weak) == 1


@pytest.mark.parametrize(
    "history",
    [
        log(BY_HEART, held_out=[2.0, 1.9]),
        log(BY_HEART, held_out=[2.0, 1.6, 1.9]),
        log([2, 1, 1.9, 1.2, 2.1, 1.1, 1.9, 1.2, 2.0], norms=[3] * 9),
        log([2, 1, 1.9, 1.2, 2.1, 1.1, 1.9, 1.2, 2.0], norms=[0.01] * 9),
        log([2.0, 1.95, 1.94, 1.93], norms=[3] * 4),
        log([2.0, 1.95, 1.94, 1.93], held_out=[2.0, 2.2], norms=[3] * 4),
        log(DIVERGED),
        log(DIVERGED, norms=[30] * 6),
        log(DIVERGED, norms=[0.01] * 6),
        log(DIVERGED, held_out=[2.0, 5.0], norms=[30] * 6),
        log(DIVERGED, held_out=[2.0, 2.0], norms=[30] * 6),
    ],
)
@pytest.mark.parametrize("train", [{}, {"early_stopping": 2, "max_steps": 4}])
def test_one_report_never_advises_both_ways(history, train):
    told = " ".join(findings(seen(history, rows=50, tune="lora", train=train)))
    lower = "lower train.learning_rate" in told
    assert not (lower and "higher train.learning_rate" in told), told
    for setting in ("epochs", "max_steps"):
        assert not (f"fewer train.{setting}" in told and f"more train.{setting}" in told), told
    assert told


def test_a_rise_of_few_losses_or_of_rows_that_get_harder_is_none():
    assert findings(seen(log([2, 2.2, 2.4]))) == []
    assert findings(seen(log(DIVERGED), train={"curriculum": "length"})) == []


@pytest.mark.parametrize("held_out", [[], [3.0], [2.0, 2.01], [2.0, 5.0]], ids=str)
@pytest.mark.parametrize("norm", [None, 0.01, 0.5, 30], ids=str)
@pytest.mark.parametrize("losses", [DIVERGED, [2, 1.5, 1.4, 2, 3, 4, 5, 6], [4, 2, 1.5, 1.4, 2, 2.5, 3, 3.6]], ids=str)
def test_a_run_that_diverges_is_told_to_lower_the_rate_and_nothing_else(losses, norm, held_out):
    norms = [] if norm is None else [norm] * len(losses)
    found = findings(seen(log(losses, held_out=held_out, norms=norms)))
    told = " ".join(found)
    assert found[0].startswith("the loss rose from ")
    assert told.count("lower train.learning_rate") == 1
    assert ("the gradient's norm is 30.00" in told) == (norm == 30)
    for wrong in ("higher", "by heart", "hardly learned", "more train.", "fewer train."):
        assert wrong not in told, told


def test_one_logged_loss_above_the_last_is_no_divergence_where_held_out_rows_are_learned():
    assert findings(seen(log([1.0, 1.1], held_out=[2.0, 1.1]))) == []


def test_what_is_on_already_is_not_advised():
    history = log(HEALTHY, held_out=[0.7, 0.42, 0.6])
    on = {"early_stopping": 2}
    told = " ".join(findings(seen(history, tune={"name": "lora", "dropout": 0.1}, train=on)))
    assert "held-out loss rose" in told
    assert "held-out loss 0.600 is 0.200 above" in told
    assert "early_stopping" not in told
    assert "dropout" not in told


def test_the_length_is_changed_by_the_setting_that_decides_it():
    stuck = log([2.0, 1.95, 1.94, 1.93])
    exact = {"epochs": 3.0, "batch_size": 10, "max_steps": 4, "min_steps": 4}
    assert "more train.max_steps" in findings(seen(stuck, train=exact))[0]
    assert "more train.max_steps" in findings(seen(stuck, train=exact | {"min_steps": 1}))[0]
    assert "more train.epochs" in findings(seen(stuck, train=exact | {"min_steps": 1, "max_steps": 10_000}))[0]


def test_only_what_the_tuner_has_is_to_be_made_larger():
    stuck = log([2.0, 1.95, 1.94, 1.93])
    assert "(more tune.trainable_layers, or tune: full)" in findings(seen(stuck, tune="freeze"))[0]
    frozen = {"name": "freeze", "frozen_layers": 2}
    assert "(fewer tune.frozen_layers, or tune: full)" in findings(seen(stuck, tune=frozen))[0]
    assert "(tune: full)" in findings(seen(stuck, tune=frozen | {"frozen_layers": 0}))[0]
    assert "(tune: full)" in findings(seen(stuck, tune="ia3"))[0]


SETTING = r"\b(?:train\.precision bf16|(?:train|tune)\.[a-z_]+|tune:? [a-z]+)"


def named_settings():
    """Every setting that a sentence of the findings can name."""
    tree = ast.parse(Path(diagnose.__file__).read_text(encoding="utf-8"))
    table = next(one for one in tree.body if isinstance(one, ast.AnnAssign) and ast.unparse(one.target) == "NAMES")
    tree.body.remove(table)
    words = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    found = {name for text in words for name in re.findall(SETTING, text)}
    recipe = Recipe.model_validate({"tune": "full", "train": {"precision": "fp32"}})
    candidates = [words for words, _ in _candidates(recipe, Rows(1, 512, 512, 1.0, 1, 10), Device("cpu", 2**30, 1e9))]
    return sorted(found | {words if words.startswith("tune ") else f"train.{words}" for words in candidates})


def test_findings_can_be_said_in_the_arguments_of_nacre_train():
    names = named_settings()
    assert {"train.learning_rate", "tune.dropout", "tune: full", "tune qlora, with 4 bits,"} <= set(names)
    for name in names:
        told = in_arguments(name, "lora")
        assert not re.search(r"train\.|tune[.: ]", told), told
        assert set(re.findall(r"[a-z]+(?:_[a-z]+)+|bf16", told)) & set(Arguments.model_fields), told
    for argument in NAMES.values():
        assert set(re.findall(r"[a-z]+(?:_[a-z]+)+|bf16", argument)) <= set(Arguments.model_fields), argument
    assert in_arguments("more tune.trainable_layers, fewer tune.frozen_layers", "freeze") == (
        "more trainable_layers, fewer freeze_layers"
    )
    assert in_arguments("tune.dropout 0.1 to 0.3, fewer train.epochs", "oft") == (
        "module_dropout 0.1 to 0.3, fewer num_train_epochs"
    )


def test_a_folder_is_trained_with_findings_in_its_own_words(toy, tmp_path):
    rows = [{"instruction": row.prompt[0].content, "output": row.answer} for row in toy.tasks["feed"]]
    (tmp_path / "feed.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"learning_rate": 1e-8, "epochs": 1.0, "min_steps": 1, "logging_steps": 1, "max_length": 64}
    recipe = Recipe.model_validate({"tune": "lora", "train": settings, "protect": "none"})
    job = FolderJob(toy.base.model, str(tmp_path / "feed.json"), tmp_path, tmp_path / "out", recipe)
    told = " ".join(note for note in train_folder(job).notes if note.startswith("finding: "))
    assert "a higher learning_rate (1e-08 now), more num_train_epochs" in told
    assert "a larger lora_rank, or finetuning_type: full" in told


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
