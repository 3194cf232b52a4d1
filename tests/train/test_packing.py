"""Packed rows: each sees itself alone, the gradients are those of the padded batch, and where it would be wrong it is
not done."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from nacre.train import packing
from nacre.train.packing import why_not_packed
from nacre.train.padding import unpadded

LENGTHS = (9, 31, 12, 1, 30)
SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Toys count as wide enough."""
    monkeypatch.setattr(packing, "WIDE", 1)


@pytest.fixture
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).train()


@pytest.fixture
def batch():
    mask_BT = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids_BT = torch.randint(3, 40, mask_BT.shape, generator=torch.Generator().manual_seed(0)) * mask_BT
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def gradients(model, batch):
    model.zero_grad()
    hidden_BTD = model.get_decoder()(**batch, use_cache=False).last_hidden_state
    real_BT = batch["attention_mask"].bool()
    torch.tanh(hidden_BTD[real_BT]).square().sum().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return hidden_BTD[real_BT].detach(), found


def assert_same(model, batch):
    expected_PD, expected = gradients(model, batch)
    computed = []
    watch = (
        model.get_decoder().layers[0].register_forward_pre_hook(lambda module, given: computed.append(given[0].shape))
    )
    with unpadded(model) as told:
        found_PD, found = gradients(model, batch)
    watch.remove()
    assert torch.allclose(found_PD, expected_PD, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        scale = expected[name].abs().max()
        assert (gradient - expected[name]).abs().max() <= 1e-6 * max(1, scale), name
    return told, computed


def test_states_and_gradients_are_those_of_the_padded_batch(llama, batch):
    told, computed = assert_same(llama, batch)
    assert told == "the rows of a batch run packed, each attending to itself"
    assert computed[-1][:2] == (1, sum(LENGTHS))
    assert llama.config._attn_implementation == "sdpa"


def test_through_the_whole_model_too(llama, batch):
    real_BT = batch["attention_mask"].bool()
    expected = llama(**batch).logits[real_BT]
    with unpadded(llama):
        assert torch.allclose(llama(**batch, use_cache=False).logits[real_BT], expected, atol=1e-6)


def test_with_gradient_checkpointing_too(llama, batch):
    llama.gradient_checkpointing_enable()
    assert_same(llama, batch)


def test_a_sliding_window_stays_one(batch):
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)).train()
    told, _ = assert_same(model, batch)
    assert "packed" in told


def test_calls_that_are_no_padded_batch_go_their_usual_way(llama, batch):
    decoder = llama.get_decoder().eval()
    left = {name: tensor.flip(1) for name, tensor in batch.items()}
    plain = [decoder(**left, use_cache=False), decoder(input_ids=batch["input_ids"])]
    tokens = llama.generate(**left, max_new_tokens=4, do_sample=False, pad_token_id=0)
    with unpadded(llama):
        again = [decoder(**left, use_cache=False), decoder(input_ids=batch["input_ids"])]
        assert torch.equal(tokens, llama.generate(**left, max_new_tokens=4, do_sample=False, pad_token_id=0))
    for one, other in zip(plain, again, strict=True):
        assert torch.equal(one.last_hidden_state, other.last_hidden_state)


class Leaking(torch.nn.Module):
    """A layer that lets each position see the one before it, whatever row that belongs to."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden_BTD, *args, **given):
        return self.layer(hidden_BTD + hidden_BTD.roll(1, dims=1), *args, **given)


def leaking(model):
    model.get_decoder().layers[0] = Leaking(model.get_decoder().layers[0])
    return model


def bloom():
    return BloomForCausalLM(BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=4)).train()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: leaking(LlamaForCausalLM(LlamaConfig(**SIZES))), "saw each other when it was tried out"),
        (lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager")), "attention is eager"),
        (bloom, ""),
    ],
    ids=["leaks", "eager", "alibi"],
)
def test_models_that_do_not_bear_it_are_run_in_groups_with_a_reason(make, reason, batch):
    torch.manual_seed(0)
    model = make()
    assert reason in why_not_packed(model.get_decoder())
    assert why_not_packed(model.get_decoder())
    with unpadded(model) as told:
        assert "in groups of like length, because" in told
        assert reason in told


def test_small_models_keep_their_groups(llama, monkeypatch):
    monkeypatch.setattr(packing, "WIDE", 64)
    assert "the model is small" in why_not_packed(llama.get_decoder())


def test_a_model_in_bf16_is_tried_out_with_its_own_rounding(llama):
    assert why_not_packed(llama.bfloat16().get_decoder()) == ""
