"""Each of these once made a protection silently useless somewhere: see the trainer's comments."""

from dataclasses import replace

import pytest
import torch
from train_kit import furthest, tensors

from nacre.model.chat import IGNORED, encode
from nacre.model.load import load_model
from nacre.model.tuners import apply
from nacre.records import Weights
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Context, Protection, Step, TrainingRows
from nacre.train.protect.distill import divergence
from nacre.train.protect.ewc import Ewc
from nacre.train.protect.importance import fisher, measurable
from nacre.train.protect.l2 import L2
from nacre.train.rows import prepare
from nacre.train.run import train
from nacre.train.trainer import Collator, last_hidden
from toy_kit import make_model, weights_of

LISTS = {  # of protections that are not tried as they are
    "none": [],
    "der": ["replay", {"name": "der", "alpha": 5.0, "beta": 1.0}],
    "distill": [{"name": "distill", "weight": 5.0, "rows": 6}],
    "distill on replayed rows": ["replay", {"name": "distill", "weight": 5.0, "on": ["replayed"]}],
    "distill from a cache": ["replay", {"name": "distill", "on": ["generic", "replayed"], "weight": 5.0, "cache": 4}],
    "ewc": [{"name": "ewc", "strength": 1e6, "apply": "gradient", "fisher": "empirical"}],
    "ewc after the step": [{"name": "ewc", "strength": 1e4, "apply": "proximal"}],
    "ewc per task": [{"name": "ewc", "strength": 1e6, "form": "per-task", "apply": "gradient"}],
    "l2": [{"name": "l2", "strength": 5.0}],
    "freeze": [{"name": "freeze", "first": 1}],
    "rehearse": [{"name": "rehearse", "rows": 16, "prompt_tokens": 16, "answer_tokens": 8}],
    "si": [{"name": "si", "strength": 10.0}],
}
TUNERS = {"orthogonal": "lora"}


def acts_while_training(name: str) -> bool:
    kind = PROTECTIONS.load(name)
    return kind.loss is not Protection.loss or kind.gradient is not Protection.gradient


# sdft refuses this toy: test_sdft.py asks the same of it
WHILE_TRAINING = sorted({*LISTS, "replay", *filter(acts_while_training, PROTECTIONS.names())} - {"sdft"})
BY_MOMENTS = {"mofo"}  # chooses by AdamW's own averages
STEADY = {"max_steps": 3, "scheduler": "constant", "warmup": 0, "batch_size": 16, "learning_rate": 1e-4}
# AdamW divides a gradient by its size: where that is no more than rounding, steps of 1e-4 differ by all they can
PLAIN_STEP = {"optimizer": "sgd", "learning_rate": 0.02}


def context(toy, folder, **options) -> Context:
    given = {"start": toy.base, "previous": toy.base, "memory": {"paint": toy.tasks["paint"]}, "folder": folder}
    empty = {"generic": list, "teacher": None, "tokenizer": toy.tokenizer, "max_length": 64}
    return Context(**{**given, **empty, **options})


def tokens_of(toy, rows):
    return measurable(rows, toy.tokenizer, 64)


@pytest.fixture(scope="module")
def other(toy, tmp_path_factory):
    """A version that differs from the one that training starts from, so that divergences do not start at zero."""
    return weights_of(toy.learn(tmp_path_factory.mktemp("other"), task="place", train={"max_steps": 10}))


@pytest.fixture(scope="module")
def gathered(toy, tmp_path_factory):
    """A start that synaptic intelligence has looked back from, and the memory folder that says so."""
    job = toy.job(tmp_path_factory.mktemp("gathered"), task="place", protect=["si"], train={"max_steps": 10})
    return {"start": weights_of(train(job)), "shared": job.shared}


@pytest.mark.parametrize("name", WHILE_TRAINING)
def test_cutting_the_batch_changes_nothing(name, toy, other, gathered, spy, tmp_path):
    grads, weights = {}, {}
    for parts in (1, 4):
        spy.steps.clear()
        settings = STEADY | (PLAIN_STEP if name not in BY_MOMENTS else {}) | {"accumulation": parts}
        protect = [*LISTS.get(name, [name]), "spy"]
        job = toy.job(tmp_path / str(parts), protect=protect, train=settings, tune=TUNERS.get(name, "full"))
        weights[parts] = tensors(train(replace(job, previous=other, **(gathered if name == "si" else {}))))
        grads[parts] = list(spy.steps)
    assert [furthest(*pair) for pair in zip(grads[1], grads[4], strict=True)] == pytest.approx([0, 0, 0], abs=1e-6)
    assert furthest(weights[1], weights[4]) < 2e-7


def test_the_caught_hidden_states_carry_gradients_to_the_weights(toy, spy, tmp_path):
    toy.learn(tmp_path, protect=["spy"], train={"max_steps": 1})
    assert spy.batches[0]["hidden"].requires_grad
    model = make_model(toy.tokenizer, seed=9)
    ids = torch.arange(6, 16)[None]
    with last_hidden(model) as seen:
        model(ids)
    with torch.no_grad():
        teacher = load_model(toy.base)(ids).logits[0]
    divergence(model.lm_head(seen[0])[0], teacher).backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().max() > 1e-5
    assert not model.model._forward_hooks, "the hook must be gone"


def test_divergence_is_the_mean_kl_of_the_old_to_the_new():
    old, new = torch.randn(5, 7), torch.randn(5, 7)
    p, q = old.softmax(-1), new.softmax(-1)
    torch.testing.assert_close(divergence(new, old), (p * (p / q).log()).sum(-1).mean())
    assert divergence(old, old).abs() < 1e-6


@pytest.mark.parametrize("kind", [Ewc, L2])
def test_the_pull_in_closed_form_is_the_penaltys_gradient(kind, toy, tmp_path):
    torch.manual_seed(0)
    model = load_model(toy.base, train=True)
    ewc = {"max_norm": 1e9, "apply": "gradient", "fisher": "empirical"}
    options = {"strength": 30.0} | (ewc if kind is Ewc else {})
    protection = kind(kind.Config(**options), context(toy, tmp_path))
    protection.model(model)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    importance = fisher(load_model(toy.base), tokens_of(toy, toy.tasks["paint"])) if kind is Ewc else {}
    penalty = sum(
        (importance.get(name, 1.0) * (weight - start[name]) ** 2).sum() for name, weight in model.named_parameters()
    )
    (30.0 / 2 * penalty).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))
    found = {name: weight.grad for name, weight in model.named_parameters()}
    scale = max(float(grad.abs().max()) for grad in expected.values())
    assert scale > 1e-4
    assert furthest(found, expected) < 1e-6 * scale


def test_ewcs_pull_is_no_longer_than_its_limit(toy, tmp_path):
    model = load_model(toy.base, train=True)
    protection = Ewc(Ewc.Config(strength=1e12, max_norm=0.5, apply="gradient"), context(toy, tmp_path))
    protection.model(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
            weight.grad = torch.zeros_like(weight)
    protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))
    assert torch.stack([weight.grad.norm() for weight in model.parameters()]).norm() == pytest.approx(0.5, rel=1e-4)


def test_fisher_squares_each_examples_gradient_before_the_mean(toy):
    model = make_model(toy.tokenizer, seed=4)
    rows = toy.tasks["paint"][:5]
    squares, means = {}, {}
    for row in rows:
        encoded = encode(row, toy.tokenizer, 64)
        ids = torch.tensor([encoded.input_ids])
        model.zero_grad()
        logs = model(ids).logits[0].log_softmax(-1)
        for place, label in enumerate(encoded.labels[1:]):
            if label != IGNORED:
                logs[place, label].backward(retain_graph=True)  # log-likelihoods of tokens add up to the row's
        for name, weight in model.named_parameters():
            squares[name] = squares.get(name, 0) + weight.grad**2 / len(rows)
            means[name] = means.get(name, 0) + weight.grad / len(rows)
    found = fisher(model, tokens_of(toy, rows))
    for name in squares:
        torch.testing.assert_close(found[name], squares[name], rtol=1e-4, atol=1e-9)
    of_the_mean = sum(float((mean**2).sum()) for mean in means.values())
    assert of_the_mean < 0.7 * sum(float(square.sum()) for square in found.values())
    assert all(weight.requires_grad for weight in model.parameters())


def test_importance_is_measured_once_and_never_taken_for_another_start(toy, tmp_path):
    def measured(**options) -> int:
        protection = Ewc(Ewc.Config(strength=1.0), context(toy, tmp_path, **options))
        protection.model(load_model(toy.base, train=True))
        return len(list((tmp_path / "importance").iterdir()))

    assert measured() == 1
    assert measured() == 1
    assert measured(start=Weights(identity="another", model=toy.base.model)) == 2
    assert measured(max_length=32) == 3
    assert measured(memory={"place": toy.tasks["place"]}) == 4


def test_past_rows_without_an_answer_or_of_plain_text_do_not_spoil_the_importance(toy):
    text = toy.tasks["paint"][0].changed(kind="text", answers=())
    unanswered = toy.tasks["paint"][1].changed(answers=())
    found = fisher(load_model(toy.base), tokens_of(toy, [text, unanswered, *toy.tasks["paint"][:3]]))
    assert all(bool(value.isfinite().all()) for value in found.values())
    assert sum(float(value.sum()) for value in found.values()) > 0


def test_the_pull_comes_after_clipping(toy, spy, tmp_path):
    settings = STEADY | {"max_grad_norm": 1e-6}
    toy.learn(tmp_path, protect=["spy"], train=settings)
    clipped = [torch.stack([grad.norm() for grad in step.values()]).norm() for step in spy.steps]
    assert clipped == pytest.approx([1e-6] * 3, rel=1e-2)
    spy.steps.clear()
    toy.learn(tmp_path, protect=[{"name": "l2", "strength": 5.0}, "spy"], train=settings)
    pulled = [float(torch.stack([grad.norm() for grad in step.values()]).norm()) for step in spy.steps]
    assert pulled[0] == pytest.approx(1e-6, rel=1e-2)  # nothing has moved yet
    assert min(pulled[1:]) > 1e-3


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_the_sparse_heads_loss_is_the_full_one(tune, accumulation, toy, spy, tmp_path):
    settings = STEADY | {"max_steps": 1, "accumulation": accumulation, "max_grad_norm": 1e9}
    job = toy.job(tmp_path, tune=tune, protect=["spy"], train=settings)
    short = job.new[0].changed(prompt=(job.new[0].prompt[0].changed(content="cat"),))
    job = replace(job, new=[short, *job.new[1:15]])
    trained = train(job)
    rows = prepare(TrainingRows(job.new), toy.tokenizer, job.recipe.train)
    batch = Collator(toy.tokenizer.pad_token_id)([rows.dataset[place] for place in range(16)])
    assert (batch["attention_mask"] == 0).any(), "there must be padding"
    batch.pop("source")
    model = load_model(toy.base)
    if tune == "lora":
        torch.manual_seed(job.recipe.train.seed)
        model = apply(load_model(toy.base, train=True), job.recipe.tune).model
    loss = model(**batch).loss
    loss.backward()
    expected = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained.final_loss == pytest.approx(float(loss), abs=1e-6)
    scale = max(float(grad.abs().max()) for grad in expected.values())
    assert furthest(spy.steps[0], expected) < 1e-6 * max(scale, 1)
