"""Self-distillation: the previous version, shown the answer, teaches; a version that cannot read is refused."""

import random
from dataclasses import replace

import pytest
import torch
from train_kit import furthest, tensors

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, encode, prompt_ids, stop_ids
from nacre.model.load import load_model
from nacre.records import Weights
from nacre.train.protect.sdft import DEMONSTRATION
from nacre.train.run import train
from toy_kit import ANSWERS, Toy, ask, task_rows, weights_of

SDFT = {"name": "sdft", "answer_tokens": 4}


@pytest.fixture(scope="module")
def reader(toy, tmp_path_factory):
    """A toy that answers `paint` from memory, and anything from a demonstration if it is shown one."""
    folder = tmp_path_factory.mktemp("reader")
    toy.tokenizer.save_pretrained(folder)
    model = load_model(toy.base, train=True)
    draw, words = random.Random(0), sum(ANSWERS.values(), ())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = task_rows("paint") + task_rows("feed") + task_rows("place")
    for _ in range(250):
        answers = [(draw.choice(rows).prompt[0].content, draw.choice(words)) for _ in range(24)]
        shown = [ask(DEMONSTRATION.format(question=q, answer=a), a) for q, a in answers]
        encoded = [encode(row, toy.tokenizer, 64) for row in [*shown, *draw.sample(toy.tasks["paint"], 8)]]
        width = max(len(row.input_ids) for row in encoded)
        ids = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in encoded])
        labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in encoded])
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return Toy(Weights(identity="reader" * 4, model=str(folder)), toy.tokenizer, toy.tasks)


def test_it_learns_from_a_teacher_that_is_shown_the_answer_and_keeps_more_than_imitation(reader, tmp_path):
    settings = {"epochs": 3.0, "learning_rate": 2e-3}
    taught = reader.learn(tmp_path / "taught", memory=(), protect=[SDFT], train=settings)
    plain = reader.learn(tmp_path / "plain", memory=(), protect="none", train=settings)
    assert any(note.startswith("sdft: 48 rows are taught by demonstration") for note in taught.notes)
    assert reader.loss(weights_of(taught), "feed") < 0.5 * reader.loss(reader.base, "feed")
    assert reader.loss(weights_of(taught), "paint") < reader.loss(weights_of(plain), "paint") - 0.3


def test_a_version_that_cannot_read_a_demonstration_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="does not use a demonstration: it takes") as refused:
        toy.learn(tmp_path, memory=(), protect=[SDFT])
    assert "replay" in refused.value.fix


def test_plain_text_has_no_demonstration(toy, tmp_path):
    with pytest.raises(InputError, match="'sdft' does not work in the stage 'pt'"):
        toy.learn(tmp_path, memory=(), protect=[SDFT], train={"stage": "pt"})


def test_no_room_for_a_demonstration_is_said(reader, tmp_path):
    with pytest.raises(InputError, match="no row leaves room for a demonstration"):
        reader.learn(tmp_path, memory=(), protect=[SDFT], train={"max_length": 16})


def test_its_gradient_is_that_of_the_reverse_divergence_on_the_own_answer(reader, spy, tmp_path):
    job = reader.job(tmp_path, memory=(), protect=[SDFT, "spy"], train=dict(ONE_STEP, batch_size=1))
    train(replace(job, new=job.new[:1]))
    row = job.new[0]
    model, teacher, tokenizer = load_model(reader.base), load_model(reader.base), reader.tokenizer
    asked = prompt_ids(row.prompt, tokenizer)
    demonstration = DEMONSTRATION.format(question=row.prompt[0].content, answer=row.answers[0].content)
    shown = prompt_ids(ask(demonstration, "").prompt, tokenizer)
    candidates = []
    logits = model(torch.tensor([asked])).logits[0, -1].softmax(-1)
    for first in logits.topk(12).indices.tolist():  # what it drew is not told: one of these gives the very gradient
        answer = [first] if first in stop_ids(tokenizer) else [first, tokenizer.eos_token_id]
        model.zero_grad()
        p = model(torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
        with torch.no_grad():
            q = teacher(torch.tensor([shown + answer])).logits[0, len(shown) - 1 : -1].log_softmax(-1)
        (p.exp() * (p - q)).sum(-1).mean().backward()
        candidates.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    found = spy.steps[0]
    scale = max(float(grad.abs().max()) for grad in found.values())
    assert scale > 1e-4
    assert min(furthest(found, one) for one in candidates) < 1e-5 * max(scale, 1)


ONE_STEP = {"max_steps": 1, "max_grad_norm": 1e9, "warmup": 0, "scheduler": "constant", "learning_rate": 1e-4}


def test_cutting_the_batch_changes_nothing(reader, spy, tmp_path):
    grads, weights = {}, {}
    for parts in (1, 4):
        spy.steps.clear()
        settings = ONE_STEP | {"max_steps": 2, "accumulation": parts}
        protect = ["replay", {**SDFT, "sft_weight": 0.5}, "spy"]
        weights[parts] = tensors(reader.learn(tmp_path / str(parts), protect=protect, train=settings))
        grads[parts] = list(spy.steps)
    for one, other in zip(grads[1], grads[4], strict=True):
        assert furthest(one, other) < 1e-6 * max(1, max(float(grad.abs().max()) for grad in one.values()))
    assert furthest(weights[1], weights[4]) < 1e-6
