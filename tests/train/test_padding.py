"""Rows in groups of like length: the same function, with fewer positions computed."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from nacre.train.padding import CALL_TOKENS, cut_points, unpadded
from toy_kit import make_model, make_tokenizer

LENGTHS = (9, 150, 12, 160, 7, 155, 160)


@pytest.fixture(scope="module")
def model():
    return make_model(make_tokenizer(), max_position_embeddings=256).train()


@pytest.fixture
def batch():
    lengths_B = torch.tensor(LENGTHS)
    mask_BT = (torch.arange(max(LENGTHS)) < lengths_B[:, None]).long()
    ids_BT = torch.randint(3, 20, mask_BT.shape, generator=torch.Generator().manual_seed(0)) * mask_BT
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def gradients(model, batch):
    model.zero_grad()
    hidden_BTD = model.get_decoder()(**batch, use_cache=False).last_hidden_state
    real_BT = batch["attention_mask"].bool()
    hidden_BTD[real_BT].square().mean().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return hidden_BTD[real_BT].detach(), found


def test_hidden_states_and_gradients_are_the_same_and_fewer_positions_are_computed(model, batch):
    whole_PD, expected = gradients(model, batch)
    computed = []
    watch = (
        model.get_decoder()
        .layers[0]
        .register_forward_pre_hook(lambda module, given: computed.append(given[0].shape[:2].numel()))
    )
    with unpadded(model):
        grouped_PD, found = gradients(model, batch)
    watch.remove()
    assert torch.allclose(whole_PD, grouped_PD, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name
    assert len(computed) == 2
    assert sum(computed) == 12 * 3 + 160 * 4
    assert "forward" not in model.get_decoder().__dict__


def test_what_is_not_plainly_padded_on_the_right_is_left_alone(model, batch):
    left = {name: tensor.flip(1) for name, tensor in batch.items()}
    expected = model.get_decoder()(**left, use_cache=False).last_hidden_state
    with unpadded(model):
        assert torch.equal(model.get_decoder()(**left, use_cache=False).last_hidden_state, expected)


def cost(lengths, runs):
    return sum(lengths[end - 1] * (end - start) + CALL_TOKENS for start, end in runs)


@given(some.lists(some.integers(1, 400), min_size=1, max_size=7).map(sorted))
def test_no_other_cut_costs_less(lengths):
    runs = cut_points(lengths)
    assert [start for start, _ in runs] == [0, *(end for _, end in runs)][:-1]
    assert runs[-1][1] == len(lengths)
    inner = range(1, len(lengths))
    for cuts in (chosen for size in range(len(lengths)) for chosen in combinations(inner, size)):
        edges = [0, *cuts, len(lengths)]
        assert cost(lengths, runs) <= cost(lengths, list(pairwise(edges)))
