"""Protections that act on the model before training: freezing, OSF, block expansion; and which of all contradict."""

import itertools
from dataclasses import replace

import pytest
import torch
from peft.tuners.osf import OSFLayer
from train_kit import furthest, tensors
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.tuners import apply
from nacre.records.recipe import Recipe
from nacre.records.tune import Full, Lora
from nacre.train.protect.base import Context, Step
from nacre.train.protect.block_expansion import BlockExpansion, expand
from nacre.train.protect.build import check_protections
from nacre.train.protect.freeze import Freeze
from nacre.train.protect.osf import Osf
from nacre.train.run import train
from toy_kit import make_model, weights_of

BRIEF = {"max_steps": 4, "weight_decay": 0.1}


def made(kind, toy, **options):
    """A protection of the toy, with options."""
    context = Context(
        start=toy.base,
        previous=toy.base,
        memory={"paint": toy.tasks["paint"], "feed": toy.tasks["feed"]},
        generic=list,
        teacher=lambda: None,
        tokenizer=toy.tokenizer,
        max_length=64,
        folder=None,
    )
    return kind(kind.Config(**options), context)


def some_ids(toy):
    return torch.arange(4, 24).reshape(2, 10) % len(toy.tokenizer)


def logits(model, ids_BT):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids_BT).logits


def changed(toy, trained):
    before, after = load_model(toy.base).state_dict(), tensors(trained)
    return {name for name in after if not torch.equal(before[name], after[name])}


# --- what contradicts what


CONTRADICTORY = [
    ("freeze", "osf", "both decide which part of the weights trains"),
    ("freeze", "block-expansion", "both decide which part of the weights trains"),
    ("osf", "block-expansion", "both decide which part of the weights trains"),
    ("average", "merge", "both move the result back"),
    ("average", "block-expansion", "the version before has fewer blocks"),
    ("merge", "block-expansion", "the version before has fewer blocks"),
    ("orthogonal", "merge", "the adapter's earlier part must stay as it was"),
    ("orthogonal", "intruder", "the adapter's earlier part must stay as it was"),
    ("si", "orthogonal", "the adapter grows with every increment"),
    ("si", "merge", "the way that was gathered does not lead there"),
    ("si", "osf", "other weights take the place of those that trained"),
]
TUNERS = {
    "freeze": {"full", "lora", "qlora"},
    "osf": {"full"},
    "block-expansion": {"full"},
    "orthogonal": {"lora", "qlora"},
    "intruder": {"lora"},
    "average": {"full", "freeze", "lora", "qlora"},
    "merge": {"full", "freeze", "lora", "qlora"},
    "si": {"full", "freeze", "lora", "qlora", "ia3", "prompt"},
}
NEEDED = {"freeze": {"first": 1}}


def entry(name):
    return {"name": name, **NEEDED.get(name, {})}


@pytest.mark.parametrize(("one", "other", "reason"), CONTRADICTORY)
def test_contradictory_protections_are_refused_with_the_reason_before_anything_is_loaded(
    one, other, reason, toy, tmp_path, monkeypatch
):
    monkeypatch.setattr("nacre.train.run.tuned_model", None)
    tune = min(TUNERS[one] & TUNERS[other])
    for pair in ((one, other), (other, one)):
        protect = [entry(name) for name in pair]
        with pytest.raises(InputError, match=reason) as refused:
            check_protections(Recipe.model_validate({"tune": tune, "protect": protect}))
        assert {one, other} <= set(refused.value.what.split("'"))
        with pytest.raises(InputError, match=reason):
            toy.learn(tmp_path, tune=tune, protect=protect)


def test_all_other_pairs_of_these_are_accepted():
    refused = {frozenset(pair[:2]) for pair in CONTRADICTORY}
    for one, other in itertools.combinations(sorted(TUNERS), 2):
        for tune in TUNERS[one] & TUNERS[other]:
            if {one, other} not in refused:
                check_protections(Recipe.model_validate({"tune": tune, "protect": [entry(one), entry(other)]}))


@pytest.mark.parametrize("name", TUNERS)
def test_each_names_the_tuners_it_works_with(name):
    for tune in ("full", "freeze", "lora", "qlora", "ia3", "prompt"):
        recipe = Recipe.model_validate({"tune": tune, "protect": [entry(name)]})
        if tune in TUNERS[name]:
            check_protections(recipe)
        else:
            with pytest.raises(InputError, match=f"protection '{name}' does not work with the tuner '{tune}'"):
                check_protections(recipe)


def test_what_changes_the_model_acts_before_what_remembers_it(toy, tmp_path):
    trained = toy.learn(
        tmp_path, protect=[{"name": "l2", "strength": 0.1}, {"name": "freeze", "first": 1}], train={"max_steps": 1}
    )
    (said,) = [note for note in trained.notes if note.startswith("l2: ")]
    assert "on 11 tensors" in said  # one block of 9, the last norm and the head: not the frozen ones


# --- freezing


@pytest.mark.parametrize(
    ("options", "frozen", "moved"),
    [
        ({"first": 1}, ("embed_tokens", "layers.0."), ("layers.1.", "lm_head")),
        ({"last": 1}, ("layers.1.",), ("embed_tokens", "layers.0.")),
        ({"trained": ("mlp",)}, ("embed_tokens", "self_attn", "lm_head"), ("layers.0.mlp", "layers.1.mlp")),
        ({"trained": ("layers.0.self_attn.*",)}, ("mlp", "layers.1."), ("layers.0.self_attn.q_proj",)),
    ],
)
def test_what_is_frozen_stays_to_the_bit(options, frozen, moved, toy, tmp_path):
    trained = toy.learn(tmp_path, protect=[{"name": "freeze", **options}], train=BRIEF)
    names = changed(toy, trained)
    assert not [name for name in names for part in frozen if part in name]
    assert all(any(part in name for name in names) for part in moved)


def test_freezing_reaches_adapters_too(toy, spy, tmp_path):
    toy.learn(tmp_path, tune="lora", protect=[{"name": "freeze", "first": 1}, "spy"], train={"max_steps": 1})
    assert spy.steps[0]
    assert all(".layers.1." in name for name in spy.steps[0])


def test_unfreezing_lets_one_block_more_go_at_equal_steps(toy, spy, tmp_path):
    settings = {"max_steps": 6, "max_grad_norm": 1e-3, "weight_decay": 0.1}
    trained = toy.learn(tmp_path, protect=[{"name": "freeze", "gradual": True}, "spy"], train=settings)
    assert any("freeze: at first the top block alone, at the end all 2" in note for note in trained.notes)

    def has(step, part):
        return any(part in name for name in step)

    assert [has(step, "layers.1.") for step in spy.steps] == [True] * 6
    assert [has(step, "lm_head") for step in spy.steps] == [True] * 6
    assert [has(step, "layers.0.") for step in spy.steps] == [False] * 3 + [True] * 3
    assert [has(step, "embed_tokens") for step in spy.steps] == [False] * 3 + [True] * 3
    norms = [float(torch.stack([grad.norm() for grad in step.values()]).norm()) for step in spy.steps]
    assert norms == pytest.approx([1e-3] * 6, rel=1e-2), "what is frozen must not count when gradients are clipped"


def test_a_block_that_is_not_let_go_yet_does_not_move_by_decay_or_momentum(toy):
    protection, model = made(Freeze, toy, gradual=True), apply(load_model(toy.base, train=True), Full()).model
    model = protection.model(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    below = model.model.layers[0].mlp.up_proj.weight
    before = below.detach().clone()
    moved = []
    for number in range(4):
        model(input_ids=some_ids(toy), labels=some_ids(toy)).loss.backward()
        protection.gradient(model, Step(number, 4, optimizer))
        optimizer.step()
        optimizer.zero_grad()
        moved.append(not torch.equal(below, before))
    assert moved == [False, False, True, True]


def test_unfreezing_goes_on_where_it_was(toy, bomb, tmp_path):
    options = {"protect": [{"name": "freeze", "gradual": True}, "bomb"], "train": {"max_steps": 6, "save_steps": 2}}
    job = toy.job(tmp_path / "broken", **options)
    bomb.at = 5
    with pytest.raises(KeyboardInterrupt):
        train(job)
    bomb.at = None
    resumed = train(job)
    assert "resumed from checkpoint-4" in resumed.notes
    assert furthest(tensors(resumed), tensors(toy.learn(tmp_path / "whole", **options))) < 1e-6


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "nothing would be frozen"),
        ({"trained": ["mlp"], "first": 1}, "'trained' names all that trains"),
        ({"gradual": True, "last": 1}, "'gradual' begins at the top"),
    ],
)
def test_choices_that_mean_nothing_are_refused_by_their_reason(options, what):
    with pytest.raises(InputError) as refused:
        check_protections(Recipe.model_validate({"protect": [{"name": "freeze", **options}]}))
    assert what in refused.value.fix


def test_choices_that_do_not_fit_the_model_are_refused(toy):
    model = apply(load_model(toy.base, train=True), Full()).model
    with pytest.raises(InputError, match="2 of 2 blocks would be frozen"):
        made(Freeze, toy, first=1, last=1).model(model)
    with pytest.raises(InputError, match="unknown module to train 'mpl'") as refused:
        made(Freeze, toy, trained=("mpl",)).model(model)
    assert "did you mean 'mlp'?" in refused.value.fix
    lora = apply(load_model(toy.base, train=True), Lora(target=("q_proj",))).model
    with pytest.raises(InputError, match="unknown module to train 'mlp'"):
        made(Freeze, toy, trained=("mlp",)).model(lora)


# --- OSF


@pytest.fixture
def split(toy):
    """OSF over the toy, with the plain model beside it."""
    protection = made(Osf, toy, frozen=0.5)
    return protection, protection.model(apply(load_model(toy.base, train=True), Full()).model), load_model(toy.base)


def step_once(protection, model, toy, steps=3):
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    model.train()
    for number in range(steps):
        model(input_ids=some_ids(toy), labels=some_ids(toy)).loss.backward()
        protection.gradient(model, Step(number, steps, optimizer))
        optimizer.step()
        optimizer.zero_grad()


def test_osf_changes_nothing_at_first_and_merges_into_what_it_was(split, toy):
    protection, model, plain = split
    torch.testing.assert_close(logits(model, some_ids(toy)), logits(plain, some_ids(toy)), rtol=0, atol=1e-5)
    step_once(protection, model, toy)
    moved = logits(model, some_ids(toy))
    assert (moved - logits(plain, some_ids(toy))).abs().max() > 0.1
    merged = protection.finish(model)
    assert type(merged) is type(plain)
    torch.testing.assert_close(logits(merged, some_ids(toy)), moved, rtol=0, atol=1e-4)


def test_on_the_frozen_directions_every_layer_answers_as_before(split, toy):
    protection, model, plain = split
    step_once(protection, model, toy)
    merged = dict(protection.finish(model).named_parameters())
    checked = 0
    for name, weight in plain.named_parameters():
        if "proj" not in name:
            assert torch.equal(weight, merged[name]), "all but linear layers stay as they are"
            continue
        U, _, V = torch.linalg.svd(weight.detach(), full_matrices=False)
        kept = min(weight.shape) // 2
        change = merged[name].detach() - weight.detach()
        assert (change @ V[:kept].T).abs().max() < 1e-5
        assert (U[:, :kept].T @ change).abs().max() < 1e-5
        assert change.abs().max() > 1e-3
        checked += 1
    assert checked == 14


def test_the_frozen_share_grows_with_the_number_of_past_tasks(toy):
    protection = made(Osf, toy)
    model = protection.model(apply(load_model(toy.base, train=True), Full()).model)
    layers = [one for one in model.modules() if isinstance(one, OSFLayer)]
    assert {one.effective_rank["default"] for one in layers} == {int(32 * 2 / 3), int(16 * 2 / 3)}
    assert "67% of the singular directions frozen (2 past tasks)" in protection.notes[0]
    with pytest.raises(InputError, match="freezes no direction"):
        made(Osf, toy, frozen=0.01).model(apply(load_model(toy.base, train=True), Full()).model)


# --- block expansion


KINDS = {
    "qwen2": Qwen2Config(use_sliding_window=True, max_window_layers=2, sliding_window=4),
    "qwen3": Qwen3Config(head_dim=8),
    "mistral": MistralConfig(sliding_window=4, head_dim=8),
}


def small(kind, toy):
    torch.manual_seed(1)
    config = KINDS[kind]
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "pad_token_id": None}
    config = type(config)(**{**{k: v for k, v in config.to_dict().items() if k != "layer_types"}, **sizes, **heads})
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("blocks", "places"), [(1, [4]), (2, [2, 5]), (3, [1, 4, 6]), (4, [1, 3, 5, 7])])
def test_new_blocks_change_nothing_at_first_and_load_without_nacre(kind, blocks, places, toy, tmp_path):
    model = small(kind, toy)
    ids_BT = torch.arange(20).reshape(2, 10)
    before = logits(model, ids_BT)
    assert expand(model, blocks) == places
    assert torch.equal(logits(model, ids_BT), before)
    with torch.no_grad():
        for place in places:
            model.model.layers[place].mlp.down_proj.weight.normal_()
    after = logits(model, ids_BT)
    assert (after - before).abs().max() > 1e-3
    model.save_pretrained(tmp_path)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert alone.config.num_hidden_layers == len(alone.model.layers) == 4 + blocks
    assert torch.equal(logits(alone, ids_BT), after)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(4 + blocks))
    said = model.generate(ids_BT, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    uncached = model.generate(
        ids_BT, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None, use_cache=False
    )
    assert torch.equal(said, uncached)


def test_only_new_blocks_train_and_the_next_increment_is_taught_by_the_smaller_version(toy, tmp_path):
    protect = [{"name": "block-expansion"}, {"name": "distill", "weight": 0.5, "length": 16}]
    trained = toy.learn(tmp_path, protect=protect, train=BRIEF)
    after, before = tensors(trained), load_model(toy.base).state_dict()
    new = {name for name in after if name not in before}
    assert new
    assert all(name.startswith("model.layers.2.") for name in new)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert after["model.layers.2.mlp.down_proj.weight"].abs().max() > 1e-4
    again = train(
        replace(toy.job(tmp_path / "next", task="place", protect=protect, train=BRIEF), start=weights_of(trained))
    )
    assert load_model(weights_of(again)).config.num_hidden_layers == 4


@pytest.mark.slow
def test_block_expansion_goes_on_from_a_checkpoint(toy, bomb, tmp_path):
    options = {"protect": ["block-expansion", "bomb"], "train": {"max_steps": 4, "save_steps": 2}}
    job = toy.job(tmp_path / "broken", **options)
    bomb.at = 3
    with pytest.raises(KeyboardInterrupt):
        train(job)
    bomb.at = None
    assert furthest(tensors(train(job)), tensors(toy.learn(tmp_path / "whole", **options))) < 1e-6


def test_more_new_blocks_than_old_ones_and_unknown_kinds_of_blocks_are_refused(toy):
    with pytest.raises(InputError, match="3 new blocks for a model of 2"):
        made(BlockExpansion, toy, blocks=3).model(load_model(toy.base))
    odd = make_model(toy.tokenizer)
    for layer in odd.model.layers:
        layer.mlp = OddMlp(layer.mlp)
    with pytest.raises(InputError, match="would change its answers before any training"):
        made(BlockExpansion, toy).model(odd)


class OddMlp(torch.nn.Module):
    """An MLP whose output projection goes by a name of its own."""

    def __init__(self, mlp):
        super().__init__()
        self.parts = torch.nn.ModuleDict({"rise": mlp.up_proj, "fall": mlp.down_proj})

    def forward(self, hidden_BTD):
        return self.parts["fall"](torch.relu(self.parts["rise"](hidden_BTD)))


# --- each in a whole run


@pytest.mark.parametrize(
    "protect", [[{"name": "freeze", "gradual": True}], ["osf"], ["block-expansion"]], ids=["gradual", "osf", "blocks"]
)
def test_cutting_the_batch_changes_nothing(protect, toy, tmp_path):
    settings = {"max_steps": 3, "scheduler": "constant", "warmup": 0, "batch_size": 16, "learning_rate": 1e-4}
    weights = [
        tensors(toy.learn(tmp_path / str(parts), protect=protect, train=settings | {"accumulation": parts}))
        for parts in (1, 4)
    ]
    assert furthest(*weights) < 1e-6


def test_osf_goes_on_from_a_checkpoint_and_leaves_a_plain_folder(toy, bomb, tmp_path):
    options = {"protect": ["osf", "bomb"], "train": {"max_steps": 4, "save_steps": 2}}
    job = toy.job(tmp_path / "broken", **options)
    bomb.at = 3
    with pytest.raises(KeyboardInterrupt):
        train(job)
    bomb.at = None
    resumed = train(job)
    assert "resumed from checkpoint-2" in resumed.notes
    assert furthest(tensors(resumed), tensors(toy.learn(tmp_path / "whole", **options))) < 1e-5
    assert not (resumed.folder / "adapter_config.json").exists()
    alone = AutoModelForCausalLM.from_pretrained(resumed.folder)
    ids_BT = some_ids(toy)
    assert torch.equal(logits(alone, ids_BT), logits(load_model(weights_of(resumed)), ids_BT))
