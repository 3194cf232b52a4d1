"""What protections must know of each other, of the model's head, and of an adapter that begins at random."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from train_kit import tensors
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED
from nacre.model.head import next_token_logits
from nacre.model.load import load_model
from nacre.model.prompts import has_prompts
from nacre.model.tuners import apply
from nacre.records.recipe import Recipe
from nacre.records.tune import Lora, Prefix, Prompt
from nacre.train.budget import Controller
from nacre.train.drift import Drift
from nacre.train.protect.base import Context
from nacre.train.protect.build import build_protections, check_protections
from nacre.train.protect.freeze import Freeze
from nacre.train.protect.importance import files_key, read_kept, write_kept
from nacre.train.protect.mixing import summed_loss
from nacre.train.protect.replay import Replay
from nacre.train.protect.sdft import Sdft
from nacre.train.run import train
from nacre.train.teacher import SameBase
from toy_kit import make_model, weights_of

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "softcapped": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, final_logit_softcapping=0.05)),
    "multiplied": lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)),
    "divided": lambda: GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0)),
}


def context(toy, **changed):
    given = {"start": toy.base, "previous": toy.base, "memory": {}, "generic": list, "teacher": lambda: None}
    return Context(**given | {"tokenizer": toy.tokenizer, "max_length": 64, "folder": None} | changed)


# --- the head


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_hidden_states_are_the_models_own(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    ids_BT = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        hidden_BTD = model.get_decoder()(input_ids=ids_BT).last_hidden_state
        expected_BTV = model(input_ids=ids_BT).logits
        found_BTV = next_token_logits(model, hidden_BTD)
        assert (model.get_output_embeddings()(hidden_BTD) - expected_BTV).abs().max() > 1e-2, "the family changes them"
    torch.testing.assert_close(found_BTV, expected_BTV)


# --- sdft beside rows that are mixed in


def taught_batch(toy, kept):
    """Two rows of the toy, the second from the first mixed-in stream; and what the model makes of them."""
    model = make_model(toy.tokenizer)
    ids_BT = torch.arange(4, 16).reshape(2, 6)
    labels_BT = ids_BT.clone()
    labels_BT[:, :3] = IGNORED
    hidden_BTD = model.get_decoder()(input_ids=ids_BT).last_hidden_state
    batch = {
        "input_ids": ids_BT,
        "attention_mask": torch.ones_like(ids_BT),
        "labels": labels_BT,
        "source": torch.tensor([0, 1]),
        "micro_batches": 2,
        "labelled_tokens": 12,
        "kept_loss": kept,
        "step": 0,
    }
    where_BT = labels_BT[:, 1:] != IGNORED
    of_row = [
        float(summed_loss(model, hidden_BTD[row : row + 1, :-1], ids_BT[row : row + 1, 1:], where_BT[row : row + 1]))
        for row in (0, 1)
    ]
    return model, batch, hidden_BTD, of_row


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.0])
def test_what_is_added_for_replayed_rows_never_outweighs_what_is_left_of_the_trainers_loss(kept, toy):
    model, batch, hidden_BTD, of_row = taught_batch(toy, kept)
    protection = Replay(Replay.Config(), context(toy))
    protection._source, protection.scale = 1, 0.5
    extra = protection.scaled_loss(model, batch, hidden_BTD)
    found = 0.0 if extra is None else float(extra)
    assert found == pytest.approx(-0.5 * kept * of_row[1] * 2 / 12)


@pytest.mark.parametrize("sft_weight", [0.0, 0.5, 1.0])
def test_rows_without_a_demonstration_keep_the_ordinary_loss(sft_weight, toy):
    model, batch, hidden_BTD, of_row = taught_batch(toy, sft_weight)
    protection = Sdft(Sdft.Config(sft_weight=sft_weight), context(toy))
    term = protection.loss(model, batch, hidden_BTD)
    found = 0.0 if term is None else float(term)
    assert found + sft_weight * sum(of_row) * 2 / 12 == pytest.approx(sum(of_row) * 2 / 12)


@pytest.mark.parametrize("late", ["replay", "rehearse", "general"])
def test_rows_must_be_mixed_in_before_sdft_writes_their_demonstrations(late):
    with pytest.raises(InputError, match=f"must know the rows that {late} mixes in") as refused:
        check_protections(Recipe.model_validate({"protect": ["sdft", late]}))
    assert f"put {late} before sdft" in refused.value.fix
    check_protections(Recipe.model_validate({"protect": [late, "sdft"]}))


# --- what is handed on


def test_ewc_beside_what_puts_other_weights_in_place_hands_nothing_on_and_says_so(toy, tmp_path):
    protect = [{"name": "osf"}, {"name": "ewc", "strength": 1.0}]
    job = toy.job(tmp_path, protect=protect, train={"max_steps": 2})
    trained = train(job)
    assert any("no importance is handed on" in note for note in trained.notes)
    assert not list((job.shared / "importance").glob("ewc-*.safetensors"))
    again = train(replace(job, start=weights_of(trained), work=tmp_path / "again"))
    assert any("ewc: importance measured on" in note for note in again.notes)


@pytest.mark.slow
def test_ewc_goes_on_beside_merged_adapters(toy, tmp_path):
    options = {"tune": {"name": "lora", "rank": 4}, "train": {"max_steps": 2}}
    job = toy.job(tmp_path, protect=["merge", {"name": "ewc", "strength": 1.0}], **options)
    first = train(job)
    start = weights_of(first, toy.base)
    second = train(replace(job, start=start, work=tmp_path / "second"))
    for trained in (first, second):
        assert {min(one.shape) for name, one in tensors(trained).items() if "lora_" in name} == {4}


def test_a_file_of_importance_with_nothing_in_it_is_none(toy, tmp_path):
    folder = Path(toy.base.model)
    write_kept(tmp_path, "si", folder, {"importance": {}}, {"increments": "1"})
    (path,) = (tmp_path / "importance").glob("si-*.safetensors")
    with safe_open(path, framework="pt") as file:
        assert not list(file.keys())
    assert files_key(folder) in path.name
    trained = dict(make_model(toy.tokenizer).named_parameters())
    assert read_kept(tmp_path, "si", toy.base, trained) is None


# --- what was frozen


@pytest.mark.parametrize("before", ["base", "adapter"])
def test_asking_the_teacher_leaves_frozen_what_was_frozen(before, toy, tmp_path):
    model = apply(load_model(toy.base, train=True), Lora(rank=4)).model
    previous = toy.base
    if before == "adapter":
        model.save_pretrained(str(tmp_path / "old"))
        previous = toy.base.changed(adapter=tmp_path / "old", identity="old")
    teacher = SameBase(model, previous)
    Freeze(Freeze.Config(first=1), context(toy)).model(model)
    marked = {name: weight.requires_grad for name, weight in model.named_parameters()}
    assert any("lora_" in name and "layers.0." in name and not trains for name, trains in marked.items())
    ids_BT = torch.arange(4, 12).reshape(1, 8)
    teacher.logits(ids_BT, torch.ones_like(ids_BT), torch.ones_like(ids_BT).bool())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == marked


# --- learned prompts that begin at random


@pytest.fixture(params=[Prompt(tokens=4), Prefix(tokens=4)], ids=["prompt", "prefix"])
def fresh(request, toy):
    return apply(load_model(toy.base, train=True), request.param)


def test_before_the_first_step_fresh_prompts_are_not_heard(fresh, toy):
    model, rows = fresh.model, toy.tasks["feed"]
    assert has_prompts(model)

    def drift_of(one: Any, *, fresh: bool = False) -> Drift:
        drift = Drift(toy.tokenizer, rows, 64, fresh=fresh)
        drift.begin(one)
        return drift

    base = drift_of(load_model(toy.base))
    torch.testing.assert_close(drift_of(model, fresh=True)._before_PV, base._before_PV)
    assert (drift_of(model)._before_PV - base._before_PV).abs().max() > 1e-3
    watched = {"paint": toy.tasks["paint"][:4]}
    scores = []
    for one, new in ((model, True), (load_model(toy.base), False)):
        controller = Controller([], watched, {}, toy.tokenizer, 64, fresh=new)
        controller.on_train_begin(None, None, None, model=one)
        scores.append(controller._before["paint"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_generic_text_is_what_the_previous_version_says_not_its_random_prompts(fresh, toy, tmp_path, monkeypatch):
    asked = []

    def sampled(own, cache, model, tokenizer, **_):
        asked.append(model)
        return ["paint big dog Assistant : grey"] * 32

    monkeypatch.setattr("nacre.train.protect.build.generic_texts", sampled)
    job = toy.job(tmp_path, tune={"name": "prompt"}, protect=["distill"])
    build_protections(job, job.recipe, fresh, toy.tokenizer, [])
    assert len(asked) == 1
    assert not has_prompts(asked[0])


# --- drift


def test_drift_is_that_of_the_model_that_is_kept(toy, tmp_path):
    settings = {"max_steps": 12}
    plain = toy.learn(tmp_path / "plain", train=settings)
    half = toy.learn(tmp_path / "half", protect=[{"name": "average", "alpha": 0.1}], train=settings)
    drift = Drift(toy.tokenizer, toy.tasks["feed"], 64)
    drift.begin(load_model(toy.base))
    assert half.drift == pytest.approx(drift.measure(load_model(weights_of(half))), rel=1e-4)
    assert half.drift < 0.5 * plain.drift
