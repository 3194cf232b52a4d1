"""EWC without old rows: importance that is handed on, its forms, and the pilot that finds the strength."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from train_kit import furthest, tensors

from nacre.model.load import load_model
from nacre.records.recipe import Train
from nacre.train.pilot import Rehearsal, total_loss
from nacre.train.protect.base import Context, Step
from nacre.train.protect.ewc import Ewc, scaled_to, weighted_centre
from nacre.train.protect.importance import files_key, fisher, measurable, read_kept, trained_weights, weights_key
from nacre.train.run import train
from toy_kit import make_model, weights_of

EMPIRICAL = {"name": "ewc", "fisher": "empirical"}
STRONG = [{**EMPIRICAL, "strength": 1e6}]


def kept_of(job, result):
    """What a run has kept for the increment that starts from its result."""
    return load_file(job.shared / "importance" / f"ewc-{files_key(result.folder)}.safetensors")


@pytest.fixture(scope="module")
def sequence(toy, tmp_path_factory):
    """Two increments under EWC with no row of any past task: the jobs and what came of them."""
    folder = tmp_path_factory.mktemp("sequence")
    first_job = toy.job(folder, task="feed", memory=(), protect=[{**EMPIRICAL, "strength": 1e3}])
    first = train(first_job)
    second_job = replace(
        toy.job(folder / "second", task="place", memory=(), protect=STRONG),
        start=weights_of(first),
        shared=first_job.shared,
    )
    return first_job, first, second_job, train(second_job)


def test_an_increment_keeps_the_importance_of_its_own_rows_and_the_next_one_finds_it(sequence, toy):
    first_job, first, second_job, second = sequence
    kept = kept_of(first_job, first)
    own = fisher(load_model(weights_of(first)), measurable(toy.tasks["feed"], toy.tokenizer, 64))
    whole = sum(float(value.sum()) for value in kept.values())
    own = scaled_to(own, whole / 2)  # generic text and the first task weigh the same
    before = read_kept(first_job.shared, "ewc", toy.base, dict(load_model(toy.base).named_parameters()))
    assert before is None, "the base model was not trained under ewc"
    assert any("generic text" in note for note in first.notes)
    added = {name: kept[f"importance/{name}"] - value for name, value in own.items()}
    assert min(float(value.min()) for value in added.values()) > -1e-5 * max(float(v.max()) for v in kept.values())
    assert max(float(value.max()) for value in added.values()) > 1e-4, "the importance measured on generic text stays"
    assert any("kept by the increments before" in note for note in second.notes)
    grown = kept_of(second_job, second)
    own = fisher(load_model(weights_of(second)), measurable(toy.tasks["place"], toy.tokenizer, 64))
    own = scaled_to(own, whole / 2)  # and so do all three
    expected = {f"importance/{name}": kept[f"importance/{name}"] + value for name, value in own.items()}
    assert furthest(grown, expected) < 1e-5 * max(float(value.max()) for value in expected.values())


def test_without_any_old_row_it_keeps_more_than_plain_training(toy, tmp_path):
    plain = toy.learn(tmp_path / "plain", memory=(), protect="none")
    # The toy has learned single rows. In generic text one row follows the other, and all after the first surprise it:
    # its importance is 18,000 times that of a row alone, so a strength of 1 holds what 1e4 would hold there.
    held = toy.learn(tmp_path / "held", memory=(), protect=[{**EMPIRICAL, "strength": 1.0}])
    kept, lost = (toy.loss(weights_of(one), "paint") for one in (held, plain))
    assert kept < lost - 0.7
    assert toy.loss(weights_of(held), "feed") < 2.2


def test_old_importance_fades_with_gamma(sequence, toy, tmp_path):
    first_job, first, second_job, second = sequence
    fading = [{**EMPIRICAL, "strength": 1e6, "gamma": 0.25, "balance": False}]
    recipe = toy.job(tmp_path, protect=fading).recipe
    faded = train(replace(second_job, recipe=recipe, work=tmp_path))
    assert furthest(tensors(faded), tensors(second)) == 0, "gamma is about what is handed on"
    kept, whole = kept_of(first_job, first), kept_of(second_job, second)  # the file of the same weights is written anew
    own = fisher(load_model(weights_of(second)), measurable(toy.tasks["place"], toy.tokenizer, 64))
    expected = {key: 0.25 * kept[key] + own[key.removeprefix("importance/")] for key in kept}
    assert furthest(whole, expected) < 1e-5 * max(float(value.max()) for value in expected.values())


def test_importance_of_other_parameters_is_not_taken(sequence, toy):
    first_job, first, _, _ = sequence
    start = weights_of(first)
    trained = dict(load_model(start).named_parameters())
    assert weights_key(start) == files_key(first.folder)
    assert read_kept(first_job.shared, "ewc", start, trained) is not None
    some = dict(list(trained.items())[:3])
    assert read_kept(first_job.shared, "ewc", start, some) is None
    assert read_kept(first_job.shared, "si", start, trained) is None


def test_the_sum_of_penalties_per_task_is_one_pull_to_their_weighted_centre():
    torch.manual_seed(0)
    importances = [{"w": torch.rand(5, 3)} for _ in range(3)]
    ends = [{"w": torch.randn(5, 3)} for _ in range(3)]
    centre, total = ends[0], importances[0]
    for importance, end in zip(importances[1:], ends[1:], strict=True):
        centre = weighted_centre((total, centre), (importance, end))
        total = {"w": total["w"] + importance["w"]}
    here = torch.randn(5, 3, requires_grad=True)
    penalty = sum((f["w"] * (here - w["w"]) ** 2).sum() / 2 for f, w in zip(importances, ends, strict=True))
    penalty.backward()
    torch.testing.assert_close(total["w"] * (here.detach() - centre["w"]), here.grad, rtol=1e-5, atol=1e-6)
    nothing = {"w": torch.zeros(5, 3)}
    assert weighted_centre((nothing, ends[0]), (nothing, ends[1]))["w"].isfinite().all()


def test_a_per_task_run_hands_on_where_its_tasks_ended(toy, tmp_path):
    protect = [{"name": "ewc", "strength": 1e3, "form": "per-task"}]
    job = toy.job(tmp_path, protect=protect, train={"max_steps": 5})
    result = train(job)
    kept = kept_of(job, result)
    start, end = load_model(toy.base).state_dict(), load_model(weights_of(result)).state_dict()
    for name in ("model.layers.0.mlp.up_proj.weight", "model.norm.weight"):
        low, high = torch.minimum(start[name], end[name]), torch.maximum(start[name], end[name])
        centre = kept[f"centre/{name}"]
        assert bool(((centre >= low - 1e-6) & (centre <= high + 1e-6)).all())
        assert (centre - end[name]).abs().max() > 1e-5
    again = replace(job, start=weights_of(result), new=toy.tasks["place"], work=tmp_path / "again")
    assert any("kept by the increments before" in note for note in train(again).notes)


def test_the_sampled_fisher_is_the_mean_over_what_the_model_would_say(toy):
    model = make_model(toy.tokenizer, seed=4)
    row = measurable(toy.tasks["paint"][:1], toy.tokenizer, 64)
    exact = exact_fisher(model, row[0])
    drawn = [fisher(model, row, labels="sampled", seed=seed) for seed in range(400)]
    name = "model.layers.1.mlp.down_proj.weight"
    mean = sum(one[name] for one in drawn) / len(drawn)
    assert float((mean - exact[name]).norm() / exact[name].norm()) < 0.15
    empirical = fisher(model, row)[name]
    assert float((empirical - exact[name]).norm() / exact[name].norm()) > 0.5
    assert furthest(drawn[0], fisher(model, row, labels="sampled", seed=0)) == 0


def exact_fisher(model, row):
    """Expectation over every token the model could say at each position: positions are independent draws."""
    wanted = [place for place, label in enumerate(row.labels[1:]) if label >= 0]
    model.eval()
    logs = model(input_ids=torch.tensor([row.input_ids])).logits[0, wanted].log_softmax(-1)
    names, weights = zip(*trained_weights(model).items(), strict=True)
    total = {name: torch.zeros_like(weight) for name, weight in zip(names, weights, strict=True)}
    for place in range(len(wanted)):
        for token in range(logs.shape[1]):
            grads = torch.autograd.grad(logs[place, token], weights, retain_graph=True)
            for name, grad in zip(names, grads, strict=True):
                total[name] += logs[place, token].exp().detach() * grad**2
    return total


def test_the_proximal_pull_is_where_penalty_and_step_are_in_balance(toy, tmp_path):
    given = {"start": toy.base, "previous": toy.base, "memory": {"paint": toy.tasks["paint"]}, "folder": tmp_path}
    context = Context(**given, generic=list, teacher=None, tokenizer=toy.tokenizer, max_length=64)
    for strength in (1e3, 1e20):
        model = load_model(toy.base, train=True)
        protection = Ewc(Ewc.Config(strength=strength, fisher="empirical"), context)
        protection.model(model)
        start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        importance = protection._importance  # at such a strength, measuring it anew would show rounding errors
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, -0.5)
        protection.gradient(model, Step(0, 1, optimizer))
        assert all(bool((weight.grad == -0.5).all()) for weight in model.parameters()), "gradients are left alone"
        optimizer.step()
        for name, weight in model.named_parameters():
            stepped = start[name] + 0.05
            share = 0.1 * strength * importance[name]
            torch.testing.assert_close(
                weight.detach(), (stepped + share * start[name]) / (1 + share), rtol=0, atol=1e-6
            )


@pytest.fixture
def rehearsal(toy):
    """A rehearsal of learning `feed` under an L2 pull, and the model it is made on."""
    model = load_model(toy.base, train=True)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def pull(strength, optimizer):
        for name, weight in model.named_parameters():
            weight.grad.add_(weight - start[name], alpha=strength)

    settings = Train(learning_rate=3e-3, batch_size=8, epochs=1.0)
    return Rehearsal(model, measurable(toy.tasks["feed"], toy.tokenizer, 64), settings, pull), start


def test_the_pilot_finds_the_largest_strength_that_still_learns_and_leaves_no_trace(rehearsal):
    made, start = rehearsal
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    found = made.run((-4, 4))
    assert furthest(dict(made.model.named_parameters()), start) == 0
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(weight.grad is None for weight in made.model.parameters())
    assert found.start > 2 * found.losses[0.0], "thirty steps must teach something"
    within = {strength for strength, loss in found.losses.items() if loss <= 1.05 * found.losses[0.0]}
    assert found.chosen == max(within) > 0
    assert found.losses[min(s for s in found.losses if s > found.chosen)] > 1.05 * found.losses[0.0]
    assert made.run((-4, 4)) == found, "the same every time"


def test_a_strength_that_always_costs_too_much_is_none(rehearsal):
    made, _ = rehearsal
    assert made.run((3, 4)).chosen == 0


def test_a_single_row_is_enough_to_rehearse_on(rehearsal):
    made, _ = rehearsal
    assert replace(made, rows=made.rows[:1]).run((0, 0)).start > 0


def test_the_micro_batches_of_a_rehearsal_change_nothing(rehearsal):
    made, _ = rehearsal
    cut = replace(made, settings=made.settings.model_copy(update={"accumulation": 4}))
    one, other = made.run((0, 1)), cut.run((0, 1))
    assert one.losses.keys() == other.losses.keys()
    assert list(one.losses.values()) == pytest.approx(list(other.losses.values()), rel=1e-3)
    rows = list(made.rows)[:4]
    apart = sum(float(total_loss(made.model, [row]).detach()) for row in rows)
    assert float(total_loss(made.model, rows).detach()) == pytest.approx(apart, rel=1e-5)


def test_the_strength_is_found_once_told_and_read_again(toy, tmp_path):
    job = toy.job(tmp_path, protect=["ewc"], train={"max_steps": 2})
    first = train(job)
    told = [note for note in first.notes if note.startswith("ewc: strength") and "by a pilot" in note]
    assert len(told) == 1
    path = next((job.shared / "importance").glob("pilot-*.json"))
    pilot = json.loads(path.read_text())
    assert set(pilot["losses"]) >= {"0.0"}
    written = path.stat().st_mtime_ns
    second = train(replace(job, work=tmp_path / "again"))
    assert told[0] in second.notes
    assert path.stat().st_mtime_ns == written
    assert furthest(tensors(first), tensors(second)) == 0
