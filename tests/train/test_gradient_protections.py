"""Synaptic intelligence, A-GEM and MoFO: each against its equation, and what it claims to change."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from train_kit import furthest, tensors

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, encode
from nacre.model.load import load_model
from nacre.train.checkpoints import KeepState, restore_state
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.agem import Agem
from nacre.train.protect.base import Context, Step
from nacre.train.protect.importance import files_key
from nacre.train.protect.mofo import Mofo, largest
from nacre.train.protect.si import Si, consolidated
from nacre.train.run import train
from toy_kit import weights_of


def context(toy, folder, **options) -> Context:
    given = {"start": toy.base, "previous": toy.base, "memory": {"paint": toy.tasks["paint"]}, "folder": folder}
    empty = {"generic": list, "teacher": None, "tokenizer": toy.tokenizer, "max_length": 64}
    return Context(**{**given, **empty, **options})


def batch_loss(model, toy, task, rows):
    """Mean loss of a task's answers, with gradients."""
    total, count = 0.0, 0
    for row in toy.tasks[task][rows]:
        encoded = encode(row, toy.tokenizer, 64)
        logits_TV = model(torch.tensor([encoded.input_ids])).logits[0, :-1]
        targets_T = torch.tensor(encoded.labels[1:])
        wanted_T = targets_T != IGNORED
        total = total + torch.nn.functional.cross_entropy(logits_TV[wanted_T], targets_T[wanted_T], reduction="sum")
        count += int(wanted_T.sum())
    return total / count


# ---- synaptic intelligence


def walk(toy, model, protection, optimizer, steps):
    """Train a few steps; returns the path integral of each weight, reckoned apart."""
    path = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for number in steps:
        optimizer.zero_grad()
        batch_loss(model, toy, "feed", slice(4 * number, 4 * number + 4)).backward()
        grads = {name: weight.grad.clone() for name, weight in model.named_parameters()}
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        protection.gradient(model, Step(number, 10, optimizer))
        optimizer.step()
        for name, weight in model.named_parameters():
            path[name] -= grads[name] * (weight.detach() - before[name])
    return path


def test_the_path_is_gradient_times_change_and_survives_a_resume(toy, tmp_path):
    model = load_model(toy.base, train=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    first = Si(Si.Config(), context(toy, tmp_path))
    first.model(model)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    expected = walk(toy, model, first, optimizer, range(3))
    assert furthest(first.state(), expected) < 1e-7
    assert max(float(value.abs().max()) for value in expected.values()) > 1e-5

    checkpoint = tmp_path / "work" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    state = type("State", (), {"global_step": 3, "is_world_process_zero": True})()
    KeepState([first]).on_save(type("Args", (), {"output_dir": str(tmp_path / "work")})(), state, None)
    second = Si(Si.Config(), context(toy, tmp_path))
    second.model(load_model(toy.base, train=True))
    restore_state([second], checkpoint)
    more = walk(toy, model, second, torch.optim.AdamW(model.parameters(), lr=1e-3), range(3, 5))
    whole = {name: expected[name] + more[name] for name in expected}
    assert furthest(second.state(), whole) < 1e-7

    (tmp_path / "result").mkdir()
    model.save_pretrained(tmp_path / "result")
    second.saved(model, tmp_path / "result")
    kept = load_file(tmp_path / "importance" / f"si-{files_key(tmp_path / 'result')}.safetensors")
    for name, weight in model.named_parameters():
        change = weight.detach() - start[name]
        importance = (whole[name] / (change**2 + 1e-3)).clamp(min=0)
        torch.testing.assert_close(kept[f"importance/{name}"], importance, rtol=1e-4, atol=1e-7)


def test_a_way_that_raised_the_loss_makes_nothing_important():
    path, change = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(consolidated(path, change, 0.5), torch.tensor([1 / 1.5, 0.0, 2.0]))


@pytest.fixture(scope="module")
def after_one(toy, tmp_path_factory):
    """A version that learned more of `paint` under SI, and the job of the next increment."""
    job = toy.job(tmp_path_factory.mktemp("si"), task="paint", memory=(), protect=["si"], train={"max_steps": 20})
    first = train(job)
    assert any("nothing is held" in note for note in first.notes)

    def learn(folder, protect, **options):
        recipe = toy.job(folder, protect=protect, **options).recipe
        following = replace(job, start=weights_of(first), new=toy.tasks["feed"], recipe=recipe, work=folder)
        return train(following)

    return learn


def test_si_holds_what_the_increments_before_needed_and_does_so_every_time(toy, after_one, tmp_path):
    held = [{"name": "si", "strength": 300.0}]
    plain, kept = after_one(tmp_path / "plain", "none"), after_one(tmp_path / "held", held)
    again = after_one(tmp_path / "again", held)
    assert furthest(tensors(kept), tensors(again)) == 0
    assert furthest(tensors(kept), tensors(plain)) > 1e-3
    assert any("importance gathered in 1 earlier increments" in note for note in kept.notes)
    # it keeps less for what it costs in new learning than the contract asks of others: its docstring says so
    assert toy.loss(weights_of(kept), "paint") < toy.loss(weights_of(plain), "paint") - 0.4
    assert toy.loss(weights_of(kept), "feed") < toy.loss(toy.base, "feed") / 3


# ---- A-GEM


@pytest.fixture
def agem(toy, tmp_path):
    """A-GEM on all past rows at once, so that its reference is theirs exactly, and a model with gradients."""
    rows = {"paint": toy.tasks["paint"][:1]}
    protection = Agem(Agem.Config(rows=3), context(toy, tmp_path, memory=rows))
    model = load_model(toy.base, train=True)
    protection.model(model)
    reference = torch.autograd.grad(batch_loss(model, toy, "paint", slice(0, 1)), list(model.parameters()))
    return protection, model, dict(zip(dict(model.named_parameters()), reference, strict=True))


def dot(one, other):
    return sum(float((one[name].double() * other[name].double()).sum()) for name in one)


def test_a_gradient_against_the_past_loses_that_part_and_no_more(agem):
    protection, model, reference = agem
    torch.manual_seed(0)
    noise = {name: torch.randn_like(value) * value.abs().mean() for name, value in reference.items()}
    against = {name: noise[name] - 2 * reference[name] for name in reference}
    assert dot(against, reference) < 0
    for name, weight in model.named_parameters():
        weight.grad = against[name].clone()
    protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))
    found = {name: weight.grad for name, weight in model.named_parameters()}
    size = dot(against, reference) / dot(reference, reference)
    expected = {name: against[name] - size * reference[name] for name in reference}
    assert furthest(found, expected) < 1e-5
    assert abs(dot(found, reference)) < 1e-4 * dot(reference, reference)
    assert "projected in 1 of 1 steps" in (protection.finish(model), protection.notes[-1])[1]


def test_a_gradient_that_does_not_hurt_the_past_is_left_as_it_is(agem):
    protection, model, reference = agem
    for name, weight in model.named_parameters():
        weight.grad = 0.5 * reference[name]
    protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))
    assert furthest({n: w.grad for n, w in model.named_parameters()}, {n: 0.5 * v for n, v in reference.items()}) == 0
    assert model.training


def test_clipping_before_the_projection_changes_nothing_but_the_length(agem):
    protection, model, reference = agem
    found = []
    for size in (1.0, 1e-3):
        for name, weight in model.named_parameters():
            weight.grad = size * (torch.ones_like(weight) * 1e-3 - reference[name])
        protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))
        found.append({name: weight.grad / size for name, weight in model.named_parameters()})
    assert furthest(*found) < 1e-5


def test_which_past_rows_are_asked_depends_on_the_step_alone(toy, tmp_path):
    memory = {task: toy.tasks[task] for task in ("paint", "place")}
    protections = [Agem(Agem.Config(rows=6), context(toy, tmp_path, memory=memory)) for _ in range(2)]
    for one in protections:
        one.model(load_model(toy.base))
    drawn = [[one._draw(number) for number in (7, 8)] for one in protections]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]
    places = {token for row in drawn[0][0] for token in row.input_ids}
    known = toy.tokenizer.convert_tokens_to_ids(["paint", "place"])
    assert set(known) <= places, "evenly over the tasks"


# ---- MoFO


def test_only_the_weights_with_the_largest_momentum_move_and_decay_moves_no_other(toy, tmp_path):
    model = load_model(toy.base, train=True)
    protection = Mofo(Mofo.Config(fraction=0.1), context(toy, tmp_path))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    for number in range(3):
        optimizer.zero_grad()
        batch_loss(model, toy, "feed", slice(4 * number, 4 * number + 4)).backward()
        momenta = {
            name: 0.9 * optimizer.state[weight].get("exp_avg", torch.zeros_like(weight)) + 0.1 * weight.grad
            for name, weight in model.named_parameters()
        }
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        protection.gradient(model, Step(number, 3, optimizer))
        optimizer.step()
        for name, weight in model.named_parameters():
            moved = weight.detach() != before[name]
            count = max(1, round(0.1 * weight.numel()))
            assert int(moved.sum()) <= count
            assert not bool((moved & ~largest(momenta[name], 0.1)).any())
            assert int(moved.sum()) > 0.9 * count or weight.numel() < 100
            torch.testing.assert_close(optimizer.state[weight]["exp_avg"], momenta[name], rtol=1e-4, atol=1e-8)


def test_the_largest_are_chosen_by_size_and_there_is_always_one():
    values = torch.tensor([[3.0, -5.0], [0.5, 4.0]])
    assert largest(values, 0.5).tolist() == [[False, True], [False, True]]
    assert int(largest(values, 0.01).sum()) == 1


def test_mofo_refuses_an_optimizer_without_momentum(toy, tmp_path):
    model = load_model(toy.base, train=True)
    protection = Mofo(Mofo.Config(), context(toy, tmp_path))
    with pytest.raises(InputError, match="SGD keeps no momentum"):
        protection.gradient(model, Step(0, 1, torch.optim.SGD(model.parameters())))


def test_a_hook_after_the_step_is_set_once_for_each_optimizer():
    weight = torch.nn.Parameter(torch.ones(2))
    one, other = torch.optim.SGD([weight], lr=0.1), torch.optim.SGD([weight], lr=0.1)
    seen = []
    after = AfterStep(seen.append)
    after.hook(one)
    after.hook(one)
    weight.grad = torch.ones(2)
    one.step()
    assert seen == [one]
    after.hook(other)
    one.step()
    other.step()
    assert seen == [one, other], "it follows the newer optimizer and leaves the older"
