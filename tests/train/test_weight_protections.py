"""Protections that put weights together: O-LoRA before training, averaging, merging and intruder reduction after it."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from peft.utils.merge_utils import dare_linear
from train_kit import furthest, tensors
from transformers import AutoModelForCausalLM

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.tuners import apply
from nacre.records.recipe import Recipe
from nacre.records.tune import Full, Lora
from nacre.train.protect.adapters import lora_layers, matrices, pairs
from nacre.train.protect.average import Average, _moved, interpolate, likelihood, line_search
from nacre.train.protect.base import Context, TrainingRows
from nacre.train.protect.build import check_protections
from nacre.train.protect.intruder import Intruder
from nacre.train.protect.merge import Merge, low_rank, merged
from nacre.train.protect.orthogonal import Orthogonal
from nacre.train.protect.plain import plain_weights
from nacre.train.run import train
from nacre.train.teacher import FrozenCopy, SameBase
from toy_kit import weights_of

LORA = {"name": "lora", "rank": 4}
BRIEF = {"max_steps": 6, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def adapter(toy, tmp_path_factory):
    """A version with an adapter that knows a second task."""
    return weights_of(toy.learn(tmp_path_factory.mktemp("adapter"), tune=LORA, train=BRIEF), toy.base)


def made(kind, toy, start, tune=None, **options):
    context = Context(
        start=start,
        previous=options.pop("previous", start),
        memory={"paint": toy.tasks["paint"]},
        generic=list,
        teacher=lambda: None,
        tokenizer=toy.tokenizer,
        max_length=64,
        folder=None,
        tune=tune or Lora(rank=4),
    )
    return kind(kind.Config(**options), context)


def ids():
    return torch.arange(4, 24).reshape(2, 10)


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids()).logits


def disturb(model):
    """Stands for training: every trained number moves."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.05)


def saved_alone(model, base, folder):
    """What PEFT alone reads back."""
    model.save_pretrained(str(folder), selected_adapters=["default"])
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.model), str(folder))


def deltas(model, name="default"):
    return {where: pair.B_OR @ pair.A_RI for where, pair in pairs(model, name).items()}


# --- O-LoRA


@pytest.mark.parametrize(("rank", "alpha"), [(4, None), (2, 3.0)])
def test_a_new_adapter_beside_the_old_one_changes_nothing_at_first(rank, alpha, toy, adapter, tmp_path):
    before = logits(load_model(adapter))
    protection = made(Orthogonal, toy, adapter, Lora(rank=rank, alpha=alpha))
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=rank, alpha=alpha)).model)
    assert model.training
    # in float64, where the order of sums does not show; the way there and back changes no weight
    torch.testing.assert_close(logits(model.double()), logits(load_model(adapter).double()), rtol=1e-6, atol=1e-6)
    model.float()
    disturb(model)
    after = logits(protection.finish(model))
    assert (after - before).abs().max() > 0.01
    alone = saved_alone(model, toy.base, tmp_path / "alone")
    torch.testing.assert_close(logits(alone), after, rtol=0, atol=1e-6)
    settings = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())
    assert settings["r"] == 4 + rank
    assert list(alone.peft_config) == ["default"]


def test_the_overlap_is_the_sum_of_absolute_products_and_teaches_the_new_part_alone(toy, adapter):
    protection = made(Orthogonal, toy, adapter, strength=2.0)
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    term = protection.loss(model, {}, torch.zeros(1))
    expected, slopes = 0.0, {}
    for where, layer in lora_layers(model):
        A_RI, _ = matrices(layer)
        for old in range(4):
            for new in range(4, 8):
                product = float((A_RI[old] * A_RI[new]).sum().detach())
                expected += abs(product)
                slope = slopes.setdefault(where, torch.zeros_like(A_RI))
                slope[new] += 2.0 * (1 if product > 0 else -1) * A_RI[old].detach()
    assert float(term) == pytest.approx(2 * expected, rel=1e-4)
    term.backward()
    for where, layer in lora_layers(model):
        torch.testing.assert_close(matrices(layer)[0].grad, slopes[where], rtol=1e-4, atol=1e-5)


def test_the_old_adapter_is_frozen_and_the_version_grows_by_the_new_rank(toy, adapter, tmp_path):
    job = toy.job(tmp_path, task="place", tune=LORA, protect=["orthogonal"], train={**BRIEF, "weight_decay": 0.5})
    trained = train(replace(job, start=adapter))
    plain = train(
        replace(job, start=adapter, recipe=job.recipe.model_copy(update={"protect": ()}), work=tmp_path / "plain")
    )
    assert any("rank 4 trains beside the frozen 4, one adapter of rank 8" in note for note in trained.notes)
    new, old = load_model(weights_of(trained, toy.base)), load_model(adapter)
    was = pairs(old)
    overlaps = []
    for where, pair in pairs(new).items():
        torch.testing.assert_close(pair.A_RI[:4], was[where].A_RI, rtol=0, atol=0)
        torch.testing.assert_close(pair.B_OR[:, :4], was[where].B_OR, rtol=0, atol=1e-7)
        assert pair.B_OR[:, 4:].abs().max() > 1e-3
        overlaps.append((pair.A_RI[:4] @ pair.A_RI[4:].T).abs().mean())
    moved = [furthest({"A": pair.A_RI}, {"A": was[where].A_RI}) for where, pair in _of(plain, toy).items()]
    assert max(moved) > 1e-3, "without it the old adapter is trained on"
    loose = train(
        replace(
            job,
            start=adapter,
            recipe=Recipe.model_validate(
                job.recipe.model_dump() | {"protect": [{"name": "orthogonal", "strength": 1e-9}]}
            ),
            work=tmp_path / "loose",
        )
    )
    free = [(pair.A_RI[:4] @ pair.A_RI[4:].T).abs().mean() for pair in _of(loose, toy).values()]
    assert sum(overlaps) < 0.7 * sum(free), "the pull must make it more orthogonal than it would be"


def _of(trained, toy):
    return pairs(load_model(weights_of(trained, toy.base)))


def test_the_first_adapter_has_nothing_to_be_orthogonal_to(toy, tmp_path):
    trained = toy.learn(tmp_path, tune=LORA, protect=["orthogonal"], train={"max_steps": 1})
    assert "orthogonal: there is no earlier adapter, so nothing to be orthogonal to" in trained.notes
    assert json.loads((trained.folder / "adapter_config.json").read_text())["r"] == 4


def test_orthogonal_goes_on_from_a_checkpoint_beside_a_teacher(toy, adapter, bomb, tmp_path):
    protect = ["orthogonal", {"name": "distill", "length": 16}, "bomb"]
    options = {"task": "place", "tune": {**LORA, "dropout": 0.1}, "protect": protect}
    settings = {"max_steps": 4, "save_steps": 2}
    job = replace(toy.job(tmp_path / "broken", **options, train=settings), start=adapter)
    bomb.at = 3
    with pytest.raises(KeyboardInterrupt):
        train(job)
    bomb.at = None
    resumed = train(job)
    assert "resumed from checkpoint-2" in resumed.notes
    whole = train(replace(toy.job(tmp_path / "whole", **options, train=settings), start=adapter))
    assert furthest(tensors(resumed), tensors(whole)) < 1e-6


def test_the_teacher_still_gives_the_previous_versions_answers(toy, adapter):
    protection = made(Orthogonal, toy, adapter)
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    disturb(model)
    where_BT, mask_BT = torch.ones_like(ids(), dtype=torch.bool), torch.ones_like(ids())
    said = SameBase(model, adapter).logits(ids(), mask_BT, where_BT)
    copy = FrozenCopy(adapter, torch.device("cpu")).logits(ids(), mask_BT, where_BT)
    torch.testing.assert_close(said, copy, rtol=0, atol=1e-5)
    assert all(weight.requires_grad for name, weight in model.named_parameters() if ".default" in name)


def test_cutting_the_batch_changes_nothing(toy, adapter, tmp_path):
    settings = {"max_steps": 3, "scheduler": "constant", "warmup": 0, "batch_size": 16, "learning_rate": 1e-4}
    weights = []
    for parts in (1, 4):
        job = toy.job(
            tmp_path / str(parts),
            task="place",
            tune=LORA,
            protect=[{"name": "orthogonal", "strength": 5.0}],
            train=settings | {"accumulation": parts},
        )
        weights.append(tensors(train(replace(job, start=adapter))))
    assert furthest(*weights) < 1e-6


@pytest.mark.parametrize("kind", [Orthogonal, Merge, Intruder])
def test_adapters_that_are_more_than_two_matrices_are_refused(kind, toy):
    tune = Lora(rank=4, dora=True)
    model = apply(load_model(toy.base, train=True), tune).model
    with pytest.raises(InputError, match="cannot put adapters together that have DoRA"):
        made(kind, toy, toy.base, tune).model(model)


# --- averaging


def test_the_line_search_finds_the_best_place_and_leaves_the_model_there(toy):
    model = load_model(toy.base)
    start = {"lm_head.weight": torch.zeros_like(model.lm_head.weight)}
    trained = {"lm_head.weight": torch.ones_like(model.lm_head.weight)}
    other = model.model.norm.weight.detach().clone()
    found = line_search(model, start, trained, lambda: -abs(float(model.lm_head.weight.mean()) - 0.31))
    assert found.alpha == 0.3
    assert sorted(found.scores) == [tenth / 10 for tenth in range(11)]
    torch.testing.assert_close(model.lm_head.weight.detach(), torch.full_like(start["lm_head.weight"], 0.3))
    assert torch.equal(model.model.norm.weight, other)
    assert line_search(model, start, trained, lambda: 1.0, (0.2, 0.7, 0.4)).alpha == 0.7, "of equals the most trained"
    interpolate(model, start, trained, 1.0)
    assert torch.equal(model.lm_head.weight, trained["lm_head.weight"])


def test_likelihood_is_the_mean_over_tasks_of_the_probability_per_token(toy):
    model = load_model(toy.base)
    tasks = {"paint": toy.tasks["paint"][:3], "feed": toy.tasks["feed"][:8]}
    both = likelihood(model, toy.tokenizer, tasks, 64)
    apart = [likelihood(model, toy.tokenizer, {task: rows}, 64) for task, rows in tasks.items()]
    assert both == pytest.approx(sum(apart) / 2)
    assert apart[0] > 0.9 > 0.1 > apart[1]
    text = toy.tasks["paint"][0].changed(kind="text", answers=())
    assert 0 < likelihood(model, toy.tokenizer, {"text": [text]}, 64) < 1


def test_a_few_new_rows_are_held_out_evenly_over_the_datasets_and_said(toy):
    protection = made(Average, toy, toy.base)
    twice = toy.tasks["feed"][0]
    new = [*toy.tasks["feed"], *toy.tasks["place"][:20], twice]
    rows = protection.rows(TrainingRows(new, datasets=(48, 21)))
    held = protection._tasks["the new rows"]
    assert rows.datasets == (48 - sum(row in held for row in new[:48]), 21 - sum(row in held for row in new[48:]))
    assert sum(rows.datasets) == len(rows.new)
    assert len(held) == 4 + 2
    assert not [row for row in rows.new if row in held]
    assert f"average: {69 - len(rows.new)} of 69 new rows were not trained on" in protection.notes[0]
    assert made(Average, toy, toy.base).rows(TrainingRows(new[:9])).new == new[:9]


def test_a_fixed_alpha_for_a_whole_model_is_exact(toy, tmp_path):
    protect = [{"name": "average", "alpha": 0.25}]
    trained = tensors(toy.learn(tmp_path / "plain", train=BRIEF))
    start = plain_weights(toy.base)
    kept = tensors(toy.learn(tmp_path / "kept", protect=protect, train=BRIEF))
    expected = {name: 0.75 * start[name] + 0.25 * trained[name] for name in kept}
    assert furthest(kept, expected) < 1e-6
    assert furthest(kept, trained) > 1e-3


def test_what_is_frozen_is_not_copied_to_be_averaged(toy):
    protection = made(Average, toy, toy.base, Full(), alpha=0.5)
    protection.rows(TrainingRows([]))
    model = protection.model(load_model(toy.base, train=True))
    as_it_was = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    moved = [name for name in as_it_was if ".layers.1." in name]
    with torch.no_grad():
        for name in moved:
            model.get_parameter(name).add_(1.0)
    assert sorted(_moved(model, plain_weights(toy.base))) == sorted(moved)
    protection.finish(model)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), as_it_was[name] + 0.5 * (name in moved))


def test_a_new_adapters_difference_is_scaled_exactly(toy, tmp_path):
    plain = toy.learn(tmp_path / "plain", tune=LORA, train=BRIEF)
    kept = toy.learn(tmp_path / "kept", tune=LORA, train=BRIEF, protect=[{"name": "average", "alpha": 0.25}])
    full, quarter = (deltas(load_model(weights_of(one, toy.base))) for one in (plain, kept))
    assert max(float(one.abs().max()) for one in full.values()) > 1e-2
    for where, one in full.items():
        torch.testing.assert_close(quarter[where], 0.25 * one, rtol=1e-5, atol=1e-7)


def test_an_adapter_that_goes_on_is_averaged_matrix_by_matrix_and_ends_where_it_should(toy, adapter):
    begun = apply(load_model(adapter, train=True), Lora(rank=4)).model
    for alpha in (0.0, 1.0):
        protection = made(Average, toy, adapter, alpha=alpha)
        protection.rows(TrainingRows([]))
        model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
        disturb(model)
        ended = deltas(model)
        wanted = deltas(begun) if alpha == 0 else ended
        assert furthest(deltas(protection.finish(model)), wanted) < 1e-7


def test_without_past_rows_alpha_is_a_half_and_that_is_said(toy, tmp_path):
    trained = toy.learn(tmp_path, memory=(), protect=["average"], train={"max_steps": 1})
    assert "average: no rows of past tasks to choose by, so alpha is 0.5" in trained.notes
    assert "average: 0.5 of the trained weights, the rest of the starting ones" in trained.notes


def test_the_search_keeps_more_of_the_past_than_training_left(toy, adapter, tmp_path):
    options = {"task": "place", "memory": ("paint", "feed"), "tune": LORA, "train": {"learning_rate": 1e-2}}
    job = replace(toy.job(tmp_path, **options, protect=["average"]), start=adapter)
    trained = train(job)
    (said,) = [note for note in trained.notes if "by likelihood per token" in note]
    alpha = float(said.split()[1])
    scores = {float(a): float(b) for a, b in (pair.split(": ") for pair in said.split("(")[1].rstrip(")").split(", "))}
    assert alpha == max(scores, key=lambda one: (scores[one], one))
    assert 0 < alpha < 1
    assert scores[alpha] > max(scores[0.0], scores[1.0])


# --- merging


def test_linear_merging_of_whole_models_is_arithmetic(toy, tmp_path):
    trained = tensors(toy.learn(tmp_path / "plain", train=BRIEF))
    protect = [{"name": "merge", "weight": 0.3}]
    kept = tensors(toy.learn(tmp_path / "one", protect=protect, train=BRIEF))
    start = plain_weights(toy.base)
    assert furthest(kept, {name: 0.7 * start[name] + 0.3 * trained[name] for name in kept}) < 1e-6
    earlier = weights_of(toy.learn(tmp_path / "earlier", task="place", train=BRIEF))
    job = replace(toy.job(tmp_path / "two", protect=protect, train=BRIEF), previous=earlier)
    previous = plain_weights(earlier)
    kept = tensors(train(job))
    assert furthest(kept, {name: 0.7 * previous[name] + 0.3 * trained[name] for name in kept}) < 1e-6


def test_ties_trims_elects_a_sign_and_takes_the_mean_of_those_that_agree():
    old = torch.tensor([4.0, -3.0, 2.0, 0.5, 0.1, 0.2])
    new = torch.tensor([-3.5, -5.0, 0.3, 3.0, -2.0, 0.1])
    # half of six numbers stay: old 4 -3 2 0 0 0, new -3.5 -5 0 3 0 0; the sums' signs are + - + + and none
    torch.testing.assert_close(merged([old, new], "ties", 0.5, 0.5), torch.tensor([4.0, -4.0, 2.0, 3.0, 0.0, 0.0]))
    torch.testing.assert_close(merged([new], "ties", 0.5, 0.5), 0.5 * torch.tensor([-3.5, -5.0, 0.0, 3.0, 0.0, 0.0]))


def test_dare_drops_by_chance_and_keeps_the_mean():
    old, new = torch.ones(200, 200), 3 * torch.ones(200, 200)
    torch.manual_seed(0)
    found = merged([old, new], "dare_linear", 0.5, 0.25)
    assert sorted(set(found.flatten().tolist())) == pytest.approx([0, 2, 6, 8])
    assert float(found.mean()) == pytest.approx(2, rel=0.03)
    torch.manual_seed(0)
    assert torch.equal(found, dare_linear([old, new], torch.tensor([0.5, 0.5]), 0.25))
    torch.manual_seed(0)
    both = merged([old, new], "dare_ties", 0.5, 0.25)
    assert sorted(set(both.flatten().tolist())) == pytest.approx([0, 4, 8, 12])


def test_the_nearest_product_of_a_rank_is_exact_where_the_rank_suffices():
    delta = torch.randn(9, 3) @ torch.randn(3, 7)
    pair, lost = low_rank(delta, 3)
    torch.testing.assert_close(pair.B_OR @ pair.A_RI, delta, rtol=1e-4, atol=1e-5)
    assert lost < 1e-5
    assert low_rank(delta, 2)[1] > 0.01


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties"])
def test_merged_adapters_are_what_the_formula_says_and_load_through_peft_alone(method, toy, adapter, tmp_path):
    protection = made(Merge, toy, adapter, method=method, weight=0.3, rank=8)
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    disturb(model)
    old, new = deltas(load_model(adapter)), deltas(model)
    after = protection.finish(model)
    answers = logits(after)
    torch.testing.assert_close(logits(saved_alone(after, toy.base, tmp_path)), answers, rtol=0, atol=1e-6)
    assert after.peft_config["default"].r == 8
    if method == "linear":
        torch.testing.assert_close(
            deltas(after)["base_model.model.model.layers.0.mlp.up_proj"],
            0.7 * old["base_model.model.model.layers.0.mlp.up_proj"]
            + 0.3 * new["base_model.model.model.layers.0.mlp.up_proj"],
            rtol=1e-4,
            atol=1e-5,
        )
        assert "that rank loses 0.0% of a layer" in protection.notes[-1]
        reference = apply(load_model(adapter, train=True), Lora(rank=4)).model
        disturb(reference)
        reference.load_adapter(str(adapter.adapter), adapter_name="old")
        reference.add_weighted_adapter(["old", "default"], [0.7, 0.3], "both", combination_type="cat")
        reference.set_adapter("both")
        torch.testing.assert_close(logits(reference), answers, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("asked", "rank"), [(None, 4), (8, 8), (500, 64)])
def test_a_merged_adapter_keeps_its_rank_unless_another_is_asked_for(asked, rank, toy, adapter):
    protection = made(Merge, toy, adapter, **({"rank": asked} if asked else {}))
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    disturb(model)
    after = protection.finish(model)
    widest = max(min(pair.A_RI.shape[1], pair.B_OR.shape[0]) for pair in pairs(after).values())
    assert after.peft_config["default"].r == min(rank, widest)


def test_options_that_mean_nothing_are_refused(toy, tmp_path, adapter):
    with pytest.raises(InputError) as refused:
        check_protections(Recipe.model_validate({"protect": [{"name": "merge", "density": 0.5}]}))
    assert "'linear' keeps every number" in refused.value.fix
    with pytest.raises(InputError, match="a rank belongs to adapters"):
        toy.learn(tmp_path, protect=[{"name": "merge", "rank": 3}])
    with pytest.raises(InputError) as refused:
        check_protections(Recipe.model_validate({"protect": [{"name": "average", "alphas": [0.5, 1.5]}]}))
    assert "every alpha must be from 0 to 1" in refused.value.fix
    elsewhere = adapter.changed(model="elsewhere", identity="elsewhere")
    protection = made(Merge, toy, adapter, previous=elsewhere)
    with pytest.raises(InputError, match="sits on another base model"):
        protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)


# --- intruder dimensions


def test_intruding_directions_are_weakened_and_the_rest_stays(toy, adapter, tmp_path):
    protection = made(Intruder, toy, adapter, keep=0.0, threshold=0.7)
    model = protection.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    where = "base_model.model.model.layers.0.self_attn.q_proj"
    layer = model.get_submodule(where)
    weight = layer.get_base_layer().weight.detach()
    U, _, V = torch.linalg.svd(weight)
    odd_O = (U @ torch.ones(32)) / 32**0.5  # as far from every direction of the base as can be
    odd_I = (torch.ones(32) @ V) / 32**0.5
    with torch.no_grad():
        for _, one in lora_layers(model):
            matrices(one)[1].zero_()
        layer.lora_B["default"].weight[:, 0] = odd_O * 50
        layer.lora_A["default"].weight[0] = odd_I
    before = deltas(model)
    after = deltas(protection.finish(model))
    assert float(before[where].norm()) > 50
    assert float(after[where].norm()) < 0.2 * float(before[where].norm())
    assert all(torch.equal(after[name], before[name]) for name in before if name != where)
    assert "1 intruding directions in 1 of 14 layers multiplied by 0.0" in protection.notes[-1]
    assert list(model.peft_config) == ["default"]
    torch.testing.assert_close(logits(saved_alone(model, toy.base, tmp_path)), logits(model), rtol=0, atol=1e-6)
    nothing = made(Intruder, toy, adapter, threshold=1e-6)
    same = nothing.model(apply(load_model(adapter, train=True), Lora(rank=4)).model)
    kept = deltas(same)
    assert furthest(deltas(nothing.finish(same)), kept) < 1e-7
