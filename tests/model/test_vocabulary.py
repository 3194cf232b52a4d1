"""The cross-entropy that keeps no scores: the plain one, in value and gradient."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from nacre.model import vocabulary
from nacre.model.head import next_token_logits
from nacre.model.vocabulary import answer_nll
from nacre.train.teacher_cache import Top, bucketed_divergence, top_of
from toy_kit import make_model, make_tokenizer

POSITIONS = 23


@pytest.fixture(params=["all at once", "seven at a time", "seven at a time, three of them together"])
def chunks(request, monkeypatch):
    if request.param != "all at once":
        size = len(make_tokenizer())
        monkeypatch.setattr(vocabulary, "CHUNK_BYTES", 7 * 4 * size)
        monkeypatch.setattr(vocabulary, "KEPT_BYTES", 0)
    if "three" in request.param:
        monkeypatch.setattr(vocabulary, "TILE_BYTES", 3 * 4 * size)


def toy(trained="", **options):
    model = make_model(make_tokenizer(), **options)
    if trained == "adapter on the head":
        return get_peft_model(model, LoraConfig(target_modules=["lm_head", "q_proj"], init_lora_weights=False))
    model.requires_grad_(trained == "head")
    return model


def losses_of(nll, model, hidden_PD, targets_P, weights_P):
    """Losses, the gradient by the hidden states, and those by whatever trains in the head."""
    own_PD = hidden_PD.clone().requires_grad_()
    model.zero_grad()
    nll_P = nll(model, own_PD, targets_P)
    (nll_P * weights_P).sum().backward()
    held = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return nll_P.detach(), own_PD.grad, held


def plain(model, hidden_PD, targets_P):
    return functional.cross_entropy(next_token_logits(model, hidden_PD).float(), targets_P, reduction="none")


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    hidden_PD = torch.randn(POSITIONS, 32, generator=draw)
    return hidden_PD, torch.randint(30, (POSITIONS,), generator=draw), torch.rand(POSITIONS, generator=draw)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("trained", ["", "head", "adapter on the head"], ids=["frozen", "trained", "adapted"])
def test_losses_and_gradients_are_the_plain_ones(trained, tied, rows, chunks):
    model = toy(trained, tie_word_embeddings=tied)
    expected, found = (losses_of(nll, model, *rows) for nll in (plain, answer_nll))
    assert torch.allclose(found[0], expected[0], atol=1e-6, rtol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6, rtol=1e-6)
    assert found[2].keys() == expected[2].keys()
    assert bool(found[2]) == bool(trained)
    for name, gradient in found[2].items():
        assert torch.allclose(gradient, expected[2][name], atol=1e-6, rtol=1e-5), name


@pytest.mark.parametrize(
    "changes",
    [
        {"final_logit_softcapping": 2.0},
        {"model_type": "granite", "logits_scaling": 4.0},
        {"final_logit_softcapping": 3.0, "model_type": "cohere", "logit_scale": 0.5},
    ],
    ids=["cap", "scale", "both"],
)
def test_what_families_do_to_their_logits_is_part_of_it(changes, rows, chunks):
    model = toy()
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, len(make_tokenizer())), requires_grad=False)
    for name, value in changes.items():
        setattr(type(model.config) if name == "model_type" else model.config, name, value)
    try:
        expected, found = (losses_of(nll, model, *rows) for nll in (plain, answer_nll))
    finally:
        type(model.config).model_type = "llama"
    assert torch.allclose(found[0], expected[0], atol=1e-6, rtol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6, rtol=1e-6)


def test_a_frozen_head_keeps_no_scores_for_the_backward_pass(rows):
    hidden_PD, targets_P, _ = rows
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda it: it):
        answer_nll(toy(), hidden_PD.requires_grad_(), targets_P)
    assert all(len(make_tokenizer()) not in shape for shape in kept)


def test_under_autocast_it_rounds_as_the_plain_one_does(rows):
    model = toy()
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = (losses_of(nll, model, *rows) for nll in (plain, answer_nll))
    assert found[0].dtype == torch.float32
    assert torch.allclose(found[0], expected[0], atol=1e-3)
    assert torch.allclose(found[1], expected[1], atol=2e-3)


@pytest.mark.parametrize("kept", [1, 5, 30], ids=["one", "some", "all"])
@pytest.mark.parametrize("cap", [None, 2.0], ids=["plain", "capped"])
def test_the_divergence_from_a_kept_teacher_is_the_plain_one(kept, cap, rows, chunks):
    hidden_PD, _, weights_P = rows
    model = toy()
    model.config.final_logit_softcapping = cap
    size = len(make_tokenizer())
    top = top_of(torch.randn(POSITIONS, size, generator=torch.Generator().manual_seed(1)), min(kept, size))
    if kept == 30:
        top = top_of(torch.randn(POSITIONS, size, generator=torch.Generator().manual_seed(1)), size)
    found = []
    for way in ("plain", "chunked"):
        own_PD = hidden_PD.clone().requires_grad_()
        if way == "plain":
            each = [
                bucketed_divergence(next_token_logits(model, own_PD[place, None]), Top(*(t[place, None] for t in top)))
                for place in range(POSITIONS)
            ]
            apart_P = torch.stack(each)
        else:
            head = vocabulary.frozen_head(model, "cpu")
            apart_P = vocabulary.divergence_nats(head, own_PD, top.logs_PK, top.ids_PK, top.rest_P)
        (apart_P * weights_P).sum().backward()
        found.append((apart_P.detach(), own_PD.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


@pytest.mark.parametrize("where", ["some", "the first", "all"])
def test_a_divergence_beside_the_answers_is_the_two_one_after_the_other(where, rows, chunks):
    hidden_PD, targets_P, weights_P = rows
    model, size = toy(), len(make_tokenizer())
    at_P = {"some": torch.arange(POSITIONS) % 3 == 1, "the first": torch.arange(POSITIONS) < 2}.get(where)
    at_P = torch.ones(POSITIONS, dtype=torch.bool) if at_P is None else at_P
    top = top_of(torch.randn(int(at_P.sum()), size, generator=torch.Generator().manual_seed(1)), 5)
    kept = (top.logs_PK, top.ids_PK, top.rest_P)

    def apart(model, own_PD, targets_P):
        lost_P = answer_nll(model, own_PD, targets_P)
        more_S = vocabulary.divergence_nats(vocabulary.frozen_head(model, "cpu"), own_PD[at_P], *kept)
        return lost_P.index_add(0, at_P.nonzero()[:, 0], more_S, alpha=0.7)

    def together(model, own_PD, targets_P):
        return answer_nll(model, own_PD, targets_P, vocabulary.Beside(at_P, vocabulary.divergence_of(*kept), 0.7))

    expected, found = (losses_of(way, model, hidden_PD, targets_P, weights_P) for way in (apart, together))
    assert torch.allclose(found[0], expected[0], atol=1e-6, rtol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6, rtol=1e-6)
