"""Ratios that must not slip: CPU seconds of steps that take turns with each other, medians, and wide bounds."""

import statistics
import time
from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers import trainer as trainers

from nacre.model.chat import ensure_template
from nacre.records import Recipe, Weights
from nacre.train.job import Job
from nacre.train.rows import encode_rows
from nacre.train.run import train
from toy_kit import SIZES, THINGS, ask, make_tokenizer

ROWS, STEPS = 8, 6
LENGTHS = (30, 180, 45, 60, 90, 36, 150, 40)


class Clock(TrainerCallback):
    """CPU seconds from the end of one step to the end of the next; the first step only starts it."""

    def __init__(self):
        self.ended, self.steps, self.losses = None, [], []

    def on_step_end(self, args, state, control, **_):
        now = time.process_time()
        if self.ended is not None:
            self.steps.append(now - self.ended)
        self.ended = now

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in (logs or {}):
            self.losses.append(logs["loss"])


@contextmanager
def clocked():
    clock = Clock()
    trainers.DEFAULT_CALLBACKS.append(clock)
    try:
        yield clock
    finally:
        trainers.DEFAULT_CALLBACKS.remove(clock)


def rows():
    words = [*THINGS, *SIZES]
    answers = [max(3, length // 5) for length in LENGTHS]
    return [
        ask(
            " ".join(words[(place + at) % len(words)] for at in range(length - answer)),
            " ".join(words[(3 * at + place) % len(words)] for at in range(answer)),
        )
        for place, (length, answer) in enumerate(zip(LENGTHS, answers, strict=True))
    ]


def made(folder, **sizes):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": None}
    config |= {"tie_word_embeddings": True, "pad_token_id": 0, "eos_token_id": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, **config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ensure_template(tokenizer)
    return Weights(identity="speedy" * 8, model=str(folder)), tokenizer


def nacre(start, folder, tune, **settings):
    settings = {"learning_rate": 1e-9, "batch_size": ROWS, "epochs": 1.0, "logging_steps": 1, "warmup": 0.0} | settings
    recipe = Recipe.model_validate({"tune": tune, "protect": "none", "train": settings})
    with clocked() as clock:
        trained = train(Job(start=start, recipe=recipe, new=rows(), work=folder / "run", shared=folder / "memory"))
    return clock, trained


def plain(start, folder, tokenizer):
    model = LlamaForCausalLM.from_pretrained(start.model)
    encoded = encode_rows(rows(), tokenizer, 256, [])
    table = Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in encoded])
    common = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    arguments = TrainingArguments(
        output_dir=str(folder), learning_rate=1e-9, max_steps=STEPS, per_device_train_batch_size=ROWS, **common
    )
    with clocked() as clock:
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        Trainer(model=model, args=arguments, train_dataset=table, data_collator=collator).train()
    return clock


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.alone
def test_a_step_with_a_large_vocabulary_costs_less_than_half_of_the_plain_trainers(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 24_000}
    start, tokenizer = made(tmp_path / "model", **sizes)
    ours, theirs, losses = [], [], []
    for turn in range(2):
        clock, _ = nacre(start, tmp_path / f"nacre{turn}", "full", min_steps=STEPS, max_steps=STEPS)
        other = plain(start, tmp_path / f"plain{turn}", tokenizer)
        ours += clock.steps
        theirs += other.steps
        losses += [clock.losses[0], other.losses[0]]
    assert max(losses) - min(losses) < 1e-3, "the same rows, the same loss"
    assert statistics.median(theirs) >= 2 * statistics.median(ours)


@pytest.mark.slow
@pytest.mark.alone
def test_where_most_blocks_do_not_train_a_later_pass_costs_less_than_six_tenths_of_the_first(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 12, "vocab_size": 64}
    start, _ = made(tmp_path / "model", **sizes)
    firsts, laters = [], []
    for turn in range(2):
        settings = {"batch_size": 2, "max_steps": 16, "min_steps": 16, "precision": "fp32"}
        tune = {"name": "freeze", "trainable_layers": 1}
        clock, trained = nacre(start, tmp_path / f"run{turn}", tune, **settings)
        firsts += clock.steps[:3]
        laters += clock.steps[3:]
        assert any("states of 24 rows were read and of 8 computed" in note for note in trained.notes)
    assert statistics.mean(laters) <= 0.6 * statistics.mean(firsts)
