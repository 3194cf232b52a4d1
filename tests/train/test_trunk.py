"""Blocks that do not train, computed once a row: the same gradients, fewer blocks computed, refused where wrong."""

import json
import resource

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import OPTConfig, OPTForCausalLM

from nacre.model.load import decoder_layers
from nacre.records import Train
from nacre.train import packing
from nacre.train.padding import unpadded
from nacre.train.trunk import FrozenTrunk, Room, boundary_of, trunk_for, why_not_kept
from toy_kit import make_model, make_tokenizer

LENGTHS = (9, 31, 12, 30)
LIMIT = 1e9


def toy(frozen=3, seed=0, **options):
    model = make_model(make_tokenizer(), seed=seed, num_hidden_layers=4, **options)
    model.requires_grad_(False)
    for layer in decoder_layers(model)[frozen:]:
        layer.requires_grad_(True)
    return model.train()


@pytest.fixture
def batch():
    mask_BT = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids_BT = torch.randint(3, 30, mask_BT.shape, generator=torch.Generator().manual_seed(0)) * mask_BT
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


@pytest.fixture(params=["packed", "in groups"])
def way(request, monkeypatch):
    monkeypatch.setattr(packing, "WIDE", 1 if request.param == "packed" else 10_000)


def opened(model, folder, limit=LIMIT):
    folder.mkdir(exist_ok=True)
    trunk = FrozenTrunk(model, boundary_of(model), Room(folder, limit))
    assert trunk.open() == ""
    return trunk


def gradients(model, batch):
    model.zero_grad()
    hidden_BTD = model.get_decoder()(**batch, use_cache=False).last_hidden_state
    real_BT = batch["attention_mask"].bool()
    hidden_BTD[real_BT].square().sum().backward()
    return hidden_BTD[real_BT].detach(), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


def counted(model, place=0):
    """Positions that a block has computed, call by call."""
    seen = []
    attention = decoder_layers(model)[place].self_attn
    attention.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["hidden_states"].shape[:2].numel()), with_kwargs=True
    )
    return seen


def assert_same(found, expected):
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        assert torch.allclose(gradient, expected[1][name], atol=1e-4, rtol=1e-4), name


def test_gradients_are_the_same_and_the_second_time_no_frozen_block_is_computed(way, batch, tmp_path):
    model = toy()
    expected = gradients(model, batch)
    trunk = opened(model, tmp_path)
    packing.why_not_packed(model.get_decoder())  # what is tried out is not counted
    below, above = counted(model, 2), counted(model, 3)
    with unpadded(model, trunk):
        assert_same(gradients(model, batch), expected)
        computed = sum(below)
        assert computed == sum(LENGTHS) <= sum(above)
        assert_same(gradients(model, batch), expected)
    trunk.close()
    assert sum(below) == computed
    assert (trunk.made, trunk.read) == (4, 4)
    assert all("forward" not in layer.__dict__ for layer in decoder_layers(model))


def test_a_later_run_on_the_same_blocks_reads_the_file_and_another_one_does_not(batch, tmp_path):
    def run(model):
        trunk = opened(model, tmp_path)
        with unpadded(model, trunk):
            found = gradients(model, batch)
        trunk.close()
        return trunk, found

    model = toy()
    _, expected = run(model)
    with torch.no_grad():
        decoder_layers(model)[3].mlp.up_proj.weight += 0.5  # what trained in the increment before
    plain = gradients(model, batch)
    trunk, found = run(model)
    assert (trunk.made, trunk.read) == (0, 4)
    assert_same(found, plain)
    assert not torch.allclose(found[0], expected[0])
    with torch.no_grad():
        decoder_layers(model)[1].mlp.up_proj.weight += 0.5
    plain = gradients(model, batch)
    other, found = run(model)
    assert other.made == 4
    assert_same(found, plain)
    assert len(list(tmp_path.glob("*.states"))) == 2


def test_states_do_not_hang_on_the_rows_beside_them(way, batch, tmp_path):
    model, found = toy(), []
    for places in ([0, 1, 2, 3], [3, 1]):
        trunk = opened(model, tmp_path / str(len(places)))
        with unpadded(model, trunk):
            gradients(model, {name: tensor[places] for name, tensor in batch.items()})
        found.append({key: trunk._file.get(key).clone() for key in trunk._file.rows})
        trunk.close()
    for key, states_TD in found[1].items():
        assert torch.equal(states_TD, found[0][key])


def test_evaluation_and_what_asks_without_gradients_compute_all(batch, tmp_path):
    model = toy()
    trunk = opened(model, tmp_path)
    below = counted(model)
    with unpadded(model, trunk):
        with torch.no_grad():
            model.get_decoder()(**batch, use_cache=False)
        model.eval()
        model.get_decoder()(**batch, use_cache=False)
    assert len(below) > 0
    assert (trunk.made, trunk.read) == (0, 0)


def test_beyond_the_limit_rows_are_computed_anew(batch, tmp_path):
    model = toy()
    expected = gradients(model, batch)
    trunk = opened(model, tmp_path, 4 * 32 * 45)
    with unpadded(model, trunk):
        gradients(model, batch)
        assert_same(gradients(model, batch), expected)
    trunk.close()
    assert trunk.read == 2
    assert "there was no room" in str(trunk)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.states")) <= 4 * 32 * 45


def test_a_torn_file_is_not_believed(batch, tmp_path):
    model = toy()
    expected = gradients(model, batch)
    for _ in range(2):
        trunk = opened(model, tmp_path)
        with unpadded(model, trunk):
            assert_same(gradients(model, batch), expected)
        trunk.close()
        (path,) = tmp_path.glob("*.states")
        path.write_bytes(path.read_bytes()[: 4 * 32 * 20])
        assert len(json.loads(path.with_suffix(".json").read_text())) == 4
    assert trunk.made == 3


def test_states_that_were_computed_in_bf16_are_not_read_in_fp32(batch, tmp_path):
    """Autocast leaves the states in float32, so their type alone does not tell."""
    model = toy()
    expected = gradients(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trunk = opened(model, tmp_path)
        with unpadded(model, trunk):
            gradients(model, batch)
    trunk.close()
    trunk = opened(model, tmp_path)
    with unpadded(model, trunk):
        assert_same(gradients(model, batch), expected)
    trunk.close()
    assert (trunk.made, trunk.read) == (4, 0)


@pytest.mark.parametrize("lost", ["all of it", "its end"])
def test_an_index_does_not_outlive_its_states_in_a_run_that_is_killed(lost, batch, tmp_path):
    """What the killed run wrote lies where the old index says that other rows are."""
    model = toy()
    expected = gradients(model, batch)
    trunk = opened(model, tmp_path)
    with unpadded(model, trunk):
        gradients(model, batch)
    trunk.close()
    (path,) = tmp_path.glob("*.states")
    if lost == "all of it":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 4 * 32 * 10])
    killed = opened(model, tmp_path)
    with unpadded(model, killed):
        gradients(model, {name: tensor.flip(0) for name, tensor in batch.items()})
    killed._file._file.close()
    killed._stack.close()  # the lock goes with the process; nothing is written down
    last = opened(model, tmp_path)
    with unpadded(model, last):
        assert_same(gradients(model, batch), expected)
    last.close()


def test_an_index_that_cannot_be_read_is_none(batch, tmp_path):
    model = toy()
    for _ in range(2):
        trunk = opened(model, tmp_path)
        with unpadded(model, trunk):
            gradients(model, batch)
        trunk.close()
        (path,) = tmp_path.glob("*.json")
        path.write_text(path.read_text()[:20])
    assert (trunk.made, trunk.read) == (4, 0)


def test_a_disk_that_takes_no_more_ends_no_training(batch, tmp_path):
    model = toy()
    expected = gradients(model, batch)
    trunk = opened(model, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 32 * 50, before[1]))
    try:
        with unpadded(model, trunk):
            assert_same(gradients(model, batch), expected)
            assert_same(gradients(model, batch), expected)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    trunk.close()
    assert trunk.read == 2
    assert "the file took no more" in str(trunk)
    again = opened(model, tmp_path)
    with unpadded(model, again):
        assert_same(gradients(model, batch), expected)
    again.close()
    assert (again.read, again.made) == (2, 2)


def test_a_file_in_use_is_left_alone(tmp_path):
    model = toy()
    first, _ = trunk_for(model, Train(), Rows(), tmp_path)
    second, told = trunk_for(model, Train(), Rows(), tmp_path)
    assert second is None
    assert "another run uses the file" in told
    first.close()
    third, _ = trunk_for(model, Train(), Rows(), tmp_path)
    third.close()


def head_trains(model):
    model.lm_head.requires_grad_(True)
    return model


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: toy(frozen=3), 3),
        (lambda: toy(frozen=0), 0),
        (lambda: head_trains(toy(frozen=2)), 2),
        (lambda: head_trains(toy(frozen=2, tie_word_embeddings=True)), 0),
        (lambda: get_peft_model(toy(), LoraConfig(layers_to_transform=[2, 3], target_modules=["q_proj"])), 2),
        (lambda: get_peft_model(toy(), LoraConfig(target_modules=["q_proj"])), 0),
    ],
    ids=["top", "all", "top and head", "top and tied head", "adapters on top", "adapters everywhere"],
)
def test_the_boundary_is_below_all_that_trains(make, expected):
    assert boundary_of(make()) == expected


def test_dropout_below_the_boundary_is_a_reason_and_above_it_is_none():
    assert "attention_dropout of 0.1" in why_not_kept(toy(attention_dropout=0.1), 3)
    config = LoraConfig(target_modules=["q_proj"], lora_dropout=0.2)
    adapted = get_peft_model(toy(), config)
    assert "dropout of 0.2" in why_not_kept(adapted, 2)
    on_top = LoraConfig(target_modules=["q_proj"], lora_dropout=0.2, layers_to_transform=[3])
    assert why_not_kept(get_peft_model(toy(), on_top), 3) == ""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"dropout": 0.1}, "dropout of 0.1"),
        ({"dropout": 0.0, "layerdrop": 0.2}, "layerdrop of 0.2"),
        ({"dropout": 0.0, "layerdrop": 0.0}, ""),
    ],
    ids=["in a function", "whole blocks", "none"],
)
def test_dropout_that_is_no_module_is_a_reason_too(config, said):
    shape = {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 30}
    model = OPTForCausalLM(OPTConfig(**shape, word_embed_proj_dim=16, max_position_embeddings=32, **config))
    assert said in why_not_kept(model, 2)
    assert bool(why_not_kept(model, 2)) == bool(said)


def test_dropout_between_the_embedding_and_the_first_block_is_a_reason():
    model = toy()
    model.get_decoder().drop = torch.nn.Dropout(0.3)
    assert "dropout of 0.3" in why_not_kept(model, 2)


class Rows:
    """As much of prepared rows as is looked at."""

    column_names = ("input_ids",)

    def __init__(self, passes=2):
        self.places = [*range(4)] * passes
        self.table = self

    def select(self, places):
        return self

    def __getitem__(self, name):
        return [[1] * length for length in LENGTHS]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "computed once"),
        ({"trunk_cache": "off"}, ""),
        ({"neftune_alpha": 5}, "adds noise to the embeddings"),
        ({"gradient_checkpointing": True}, "gradient checkpointing"),
        ({"trunk_cache_gib": 1e-9}, "the limit is"),
    ],
    ids=["auto", "off", "noise", "checkpointing", "no room"],
)
def test_what_is_said(changes, said, tmp_path):
    trunk, told = trunk_for(toy(), Train(**changes), Rows(), tmp_path)
    assert said in told
    assert bool(told) == bool(said)
    assert (trunk is not None) == (said == "computed once")
    if trunk is not None:
        trunk.close()


def test_one_pass_over_the_rows_keeps_nothing(tmp_path):
    assert trunk_for(toy(), Train(), Rows(passes=1), tmp_path) == (None, "")


def test_a_family_that_ties_late_blocks_to_early_ones_is_found_out(tmp_path):
    model = toy()
    early, late = decoder_layers(model)[0].self_attn, decoder_layers(model)[3]
    seen = []
    early.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    late.register_forward_hook(lambda module, args, out: out + 2 * seen.pop() if seen else out)
    trunk, told = trunk_for(model, Train(), Rows(), tmp_path)
    assert trunk is None
    assert "later blocks use more of them" in told
