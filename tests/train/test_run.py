"""A run as a whole: what is decided, said, refused and left alone."""

import json
import os
import warnings
from collections import Counter
from dataclasses import replace

import pytest
import torch
from train_kit import furthest, tensors

from nacre.base.errors import InputError, NacreError
from nacre.model.load import load_model
from nacre.records import Example, Message, Recipe, Train
from nacre.records.tune import Freeze, Full, Lora
from nacre.train import memory
from nacre.train.arguments import precision_of, training_arguments
from nacre.train.auto import epochs, learning_rate, settle
from nacre.train.generic import generic_texts, sample_texts
from nacre.train.optimizers import SCHEDULERS
from nacre.train.plot import plot_loss
from nacre.train.protect.base import MixIn, TrainingRows
from nacre.train.rows import encode_rows, prepare
from nacre.train.run import train
from nacre.train.stages.supervised import Supervised
from toy_kit import ask, weights_of

BRIEF = {"max_steps": 2}


def text(content: str) -> Example:
    return Example(kind="text", prompt=(Message(role="user", content=content),))


# --- what `auto` stands for


def test_the_automatic_learning_rate_falls_with_size_and_is_higher_for_adapters():
    assert learning_rate(Full(), 700_000) == 2e-3
    assert learning_rate(Full(), 7_000_000_000) == 1e-5
    assert learning_rate(Lora(), 7_000_000_000) == 1e-4
    assert learning_rate(Lora(rank=32), 7_000_000_000) == 1e-4
    assert learning_rate(Lora(), 700_000) == 6e-3
    assert learning_rate(Lora(rank=4), 700_000) == 6e-3
    assert learning_rate(Lora(rank=32), 700_000) == 3e-3  # wider
    assert learning_rate(Lora(rank=32, alpha=32), 700_000) == 6e-3  # and scaled by half of that
    assert learning_rate(Lora(rank=8, rslora=True), 700_000) == 2.1e-3
    assert learning_rate(Lora(rank=32, lr_ratio=8), 700_000) == 1.5e-3
    assert learning_rate(Freeze(), 700_000) == 2e-3
    assert learning_rate(Full(), 1) == 2e-3
    rates = [learning_rate(Full(), 10**power) for power in range(6, 12)]
    assert rates == sorted(rates, reverse=True)
    assert all(learning_rate(Lora(), 10**power) > learning_rate(Full(), 10**power) for power in range(6, 11))


@pytest.mark.parametrize(("rows", "passes"), [(10, 10), (300, 6), (400, 4), (100_000, 3)])
def test_the_automatic_epochs_make_about_a_hundred_steps(rows, passes):
    assert epochs(rows, 16) == passes


def test_what_was_decided_is_said_and_what_was_given_stays():
    settled, notes = settle(Train(), Full(), 700_000, 300)
    assert (settled.learning_rate, settled.epochs) == (2e-3, 6.0)
    assert len(notes) == 2
    given = Train(learning_rate=1e-3, epochs=2)
    assert settle(given, Full(), 700_000, 300) == (given, [])


def test_the_recipe_that_comes_back_has_no_auto_left(toy, tmp_path):
    trained = toy.learn(tmp_path, train={"learning_rate": "auto", "epochs": "auto", "max_steps": 2})
    assert isinstance(trained.recipe.train.learning_rate, float)
    assert isinstance(trained.recipe.train.epochs, float)
    assert sum("chosen for" in note for note in trained.notes) == 2


# --- what is refused, and what is done instead


def test_more_tokens_than_the_model_has_positions_are_not_asked_for(toy, tmp_path):
    long = ask("paint " + "old " * 300 + "cat", "red")
    job = replace(toy.job(tmp_path, train={"max_length": 1024, **BRIEF}), new=[long, *toy.tasks["feed"]])
    trained = train(job)
    assert trained.recipe.train.max_length == 128
    assert "max_length 128 instead of 1024: the model knows no more positions" in trained.notes
    assert "1 of 49 rows were longer than 128 tokens and were shortened" in trained.notes
    assert not any("max_length" in note for note in toy.learn(tmp_path / "b", train=BRIEF).notes)


def test_an_unknown_scheduler_is_answered_with_the_nearest(toy, tmp_path):
    with pytest.raises(InputError, match="unknown scheduler 'cosin'") as refused:
        toy.learn(tmp_path, train={"scheduler": "cosin"})
    assert "did you mean 'cosine'?" in refused.value.fix


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_known_scheduler_trains(name, toy, tmp_path):
    assert toy.learn(tmp_path, train={"scheduler": name, **BRIEF}).steps == 2


def test_a_batch_that_cannot_be_cut_evenly_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="a batch of 8 rows cannot be cut into 3 equal micro-batches"):
        toy.learn(tmp_path, train={"accumulation": 3})


def test_rows_without_an_answer_are_left_out_and_counted(toy, tmp_path):
    empty = toy.tasks["feed"][0].changed(answers=())
    job = toy.job(tmp_path, train=BRIEF)
    assert "1 rows were left out: no token of an answer in them" in train(replace(job, new=[empty, *job.new])).notes
    with pytest.raises(InputError, match="no row has a token to train on"):
        train(replace(job, new=[empty]))


def test_a_row_that_the_template_refuses_is_named_by_file_and_line(toy):
    row = toy.tasks["feed"][0]
    odd = row.changed(tools="{", origin={"file": "train.json", "line": 7})
    with pytest.raises(InputError) as refused:
        encode_rows([row, odd], toy.tokenizer, 64, [])
    assert refused.value.where.startswith("train.json, line 7: ")


def test_tools_that_the_template_has_no_place_for_are_counted(toy):
    notes = []
    encode_rows([toy.tasks["feed"][0].changed(tools='[{"name": "time"}]')], toy.tokenizer, 64, notes)
    assert notes == ["1 rows declare tools, which the model's chat template has no place for"]


def test_training_that_diverges_is_an_error(toy, tmp_path):
    with pytest.raises(NacreError, match="training diverged") as diverged:
        toy.learn(tmp_path, train={"learning_rate": 1e38, "max_steps": 3, "warmup": 0})
    assert diverged.value.fix == "lower the learning rate"
    assert not (tmp_path / "run" / "result").exists()


@pytest.mark.parametrize(("bf16", "word"), [(True, "bf16"), (False, "fp32")])
def test_fp16_on_a_cpu_trains_in_what_the_cpu_has(bf16, word, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": bf16, "amx_bf16": False})
    recipe = toy.job(tmp_path, train={"precision": "fp16"}).recipe
    arguments, said = training_arguments(recipe, Supervised(), 10, tmp_path)
    assert (arguments.fp16, arguments.bf16) == (False, bf16)
    assert said == [f"fp16 does not train on a CPU: {word} was used instead"]
    trained = toy.learn(tmp_path, train={"precision": "fp16", **BRIEF})
    assert said[0] in trained.notes
    assert trained.final_loss > 0


@pytest.mark.parametrize(("wanted", "bf16"), [("auto", False), ("fp32", False), ("bf16", True)])
def test_other_precisions_on_a_cpu_are_taken_as_asked(wanted, bf16):
    assert precision_of(wanted, on_gpu=False) == (bf16, False, [])


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "expected"),
    [
        ("auto", True, (True, False)),
        ("auto", False, (False, True)),
        ("fp16", True, (False, True)),
        ("bf16", True, (True, False)),
        ("fp32", True, (False, False)),
    ],
)
def test_precision_on_a_gpu(wanted, has_bf16, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert precision_of(wanted, on_gpu=True) == (*expected, [])


# --- what is trained


def test_every_batch_holds_its_true_mixture(toy):
    rows = TrainingRows(toy.tasks["feed"]).with_rows(MixIn("replay", 0.25, (toy.tasks["paint"], toy.tasks["place"])))
    settings = Train(batch_size=8, epochs=2.0, max_length=64, learning_rate=1e-3)
    prepared = prepare(rows, toy.tokenizer, settings)
    sources = prepared.dataset["source"][:]
    assert prepared.steps == settings.min_steps == len(sources) / 8
    counts = [Counter(sources[start : start + 8]) for start in range(0, len(sources), 8)]
    assert all(count == {0: 6, 1: 2} for count in counts)
    words = [toy.tokenizer.decode(row["input_ids"]) for row in prepared.dataset if row["source"] == 1]
    tasks = Counter("paint" if "paint" in word else "place" for word in words)
    assert tasks["paint"] == tasks["place"]
    again = prepare(rows, toy.tokenizer, settings)
    assert again.rows_hash == prepared.rows_hash
    other = prepare(rows, toy.tokenizer, settings.model_copy(update={"seed": 1}))
    assert other.rows_hash != prepared.rows_hash


def test_plain_text_trains_every_token_in_full_blocks_and_replays_answers(toy, spy, tmp_path):
    texts = [text("the cat feed hay big dog " * 4) for _ in range(30)]
    job = toy.job(tmp_path, protect=["replay", "spy"], train={"stage": "pt", "max_length": 32, "max_steps": 4})
    trained = train(replace(job, new=texts))
    stream = 30 * (24 + 1)
    prepared = prepare(TrainingRows(texts), toy.tokenizer, trained.recipe.train)
    lengths = {len(row["input_ids"]) for row in prepared.dataset}
    assert lengths == {32, stream % 32}
    for batch in spy.batches:
        new = batch["source"] == 0
        assert (batch["labels"][new] == batch["input_ids"][new])[batch["attention_mask"][new].bool()].all()
        assert (batch["labels"][~new] == -100).any()
        assert (~new).any()
    assert trained.kind == "full"


def test_the_number_of_steps_is_what_was_asked_for(toy, tmp_path, spy):
    trained = toy.learn(tmp_path, protect=["spy"], train={"epochs": 1.0, "min_steps": 1})
    assert trained.steps == len(spy.steps) == 6
    assert toy.learn(tmp_path / "b", train={"epochs": 1.0, "min_steps": 9}).steps == 9


# --- generic text


def test_generic_text_is_sampled_once_by_its_seed(toy, tmp_path):
    model = load_model(toy.base, train=True)
    one, same = (sample_texts(model, toy.tokenizer, seed=3, texts=70, tokens=16) for _ in range(2))
    assert one == same
    assert len(one) == 70
    assert sample_texts(model, toy.tokenizer, seed=4, texts=70, tokens=16) != one
    assert model.training
    assert sum("paint" in said for said in one) > 35, "the toy says unasked what it was taught"
    cache = tmp_path / "generic" / "texts.jsonl"
    first = generic_texts(None, cache, model, toy.tokenizer, seed=3, notes=[])
    assert len(first) > 100
    assert generic_texts(None, cache, None, toy.tokenizer, seed=3, notes=[]) == first, "no model is asked again"


def test_sampling_does_not_touch_the_runs_own_chance(toy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sample_texts(load_model(toy.base), toy.tokenizer, seed=3, texts=4, tokens=4)
    assert torch.equal(torch.rand(3), expected)


def test_the_users_own_text_is_read_and_what_cannot_be_used_counted(toy, tmp_path):
    own = tmp_path / "general.jsonl"
    rows = [{"text": "the big cat"}, {"instruction": "paint", "output": "red"}, {"colour": "red"}]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = []
    found = generic_texts(own, tmp_path / "cache", None, toy.tokenizer, seed=0, notes=notes)
    assert found == ["the big cat", "paint\nred"]
    assert notes == [f"1 rows of {own} cannot be used as generic text"]
    assert not (tmp_path / "cache").exists()


def test_too_little_generic_text_is_refused(toy, tmp_path):
    general = tmp_path / "general.txt"
    general.write_text("the big cat\n")
    with pytest.raises(InputError, match="shorter than one block of 64 tokens"):
        train(replace(toy.job(tmp_path, protect=["distill"]), general=general))


def test_text_is_sampled_from_the_version_to_be_kept(toy, tmp_path):
    silent = load_model(toy.base)
    torch.nn.init.zeros_(silent.lm_head.weight)  # says every word as often as any other
    silent.save_pretrained(tmp_path / "silent")
    toy.tokenizer.save_pretrained(tmp_path / "silent")
    job = toy.job(tmp_path, protect=["distill"], train=BRIEF)
    start = toy.base.changed(identity="silent", model=str(tmp_path / "silent"))
    train(replace(job, start=start, previous=toy.base))
    (cache,) = (job.shared / "generic").iterdir()
    assert cache.name == f"{toy.base.identity[:16]}-0.jsonl"
    assert cache.read_text().count("paint") > 64


# --- what comes out, and what is left alone


def test_a_run_leaves_the_process_as_it_was(toy, tmp_path, capfd):
    environment, filters = dict(os.environ), list(warnings.filters)
    trained = toy.learn(tmp_path, protect="auto", train=BRIEF)
    out, _ = capfd.readouterr()
    assert out == ""
    assert dict(os.environ) == environment
    assert warnings.filters == filters
    assert trained.peak_rss_bytes > 50e6
    assert trained.seconds > 0


def test_the_result_has_weights_tokenizer_log_and_a_loss(toy, tmp_path):
    trained = toy.learn(tmp_path, train={"max_steps": 12, "logging_steps": 5})
    log = [json.loads(line) for line in (trained.folder / "trainer_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [5, 10]
    assert trained.final_loss == log[-1]["loss"]
    assert log[-1]["drift_kl"] == trained.drift
    assert toy.learn(tmp_path / "short", train=BRIEF).final_loss > 0
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "trainer_log.jsonl",
        "trainer_state.json",
    }
    plot_loss(trained.folder / "trainer_log.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_gradient_checkpointing_changes_the_memory_and_nothing_else(toy, tmp_path):
    protect = ["replay", {"name": "distill", "on": ["generic", "replayed"]}]
    plain, saving = (
        toy.learn(tmp_path / str(on), protect=protect, train={"gradient_checkpointing": on, "max_steps": 4})
        for on in (False, True)
    )
    assert furthest(tensors(plain), tensors(saving)) < 1e-6


def test_gradient_checkpointing_comes_on_by_itself_where_memory_needs_it(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "needs_checkpointing", lambda *given: True)
    trained = toy.learn(tmp_path, train=BRIEF)
    assert trained.recipe.train.gradient_checkpointing is True
    assert sum("gradient checkpointing is on" in note for note in trained.notes) == 1
    assert trained.recipe.alone == trained.recipe.alone.model_validate(trained.recipe.alone.model_dump())
    monkeypatch.undo()
    assert toy.learn(tmp_path / "again", train=BRIEF).recipe.train.gradient_checkpointing is None


def test_the_seed_decides(toy, tmp_path):
    def learn(folder: str, seed: int):
        return tensors(toy.learn(tmp_path / folder, tune="lora", train={"seed": seed, **BRIEF}))

    first = learn("a", 1)
    assert furthest(first, learn("b", 1)) == 0
    assert furthest(first, learn("c", 2)) > 1e-3


def test_a_trained_version_has_learned(toy, tmp_path):
    trained = toy.learn(tmp_path, train={"epochs": 20.0})
    assert toy.loss(weights_of(trained), "feed") < 0.5
    assert isinstance(trained.recipe, Recipe)
