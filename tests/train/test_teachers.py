"""Teachers, adapters and what is saved: everything must load without nacre."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from train_kit import furthest, tensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from nacre.model.load import load_model
from nacre.model.tuners import apply
from nacre.records.tune import Freeze, Full, Lora
from nacre.train.run import train
from nacre.train.teacher import FrozenCopy, SameBase
from toy_kit import weights_of

LORA = {"name": "lora", "rank": 4, "dropout": 0.1}
BRIEF = {"max_steps": 12, "learning_rate": 1e-2}
KEEP = ["replay", {"name": "distill", "weight": 1.0, "on": ["generic", "replayed"]}]


@pytest.fixture(scope="module")
def adapter(toy, tmp_path_factory):
    """An adapter that learned `feed` on the toy."""
    trained = toy.learn(tmp_path_factory.mktemp("adapter"), tune=LORA, train=BRIEF)
    return weights_of(trained, toy.base)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids [2, 9] with padding, mask, and some positions to ask at."""
    ids_BT = torch.arange(6, 24).reshape(2, 9)
    mask_BT = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return ids_BT, mask_BT, mask_BT.bool() & (ids_BT % 2 == 0)


def state(model) -> tuple[dict[str, bool], dict[str, bool]]:
    return (
        {name: weight.requires_grad for name, weight in model.named_parameters() if ".previous." not in name},
        {name: module.training for name, module in model.named_modules() if "previous" not in name},
    )


@pytest.mark.parametrize("before", ["base", "adapter"])
def test_the_same_base_answers_as_a_frozen_copy_and_is_left_as_it_was(before, toy, adapter):
    previous = toy.base if before == "base" else adapter
    model = apply(load_model(adapter, train=True), Lora(rank=4)).model.train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.05)  # the one that trains has moved on
    as_it_was = state(model)
    assert any(as_it_was[0].values())
    assert all(as_it_was[1].values())
    ids_BT, mask_BT, where_BT = batch()
    trained_logits = model.eval()(ids_BT, attention_mask=mask_BT).logits[where_BT]
    model.train()
    said = SameBase(model, previous).logits(ids_BT, mask_BT, where_BT)
    copy = FrozenCopy(previous, torch.device("cpu")).logits(ids_BT, mask_BT, where_BT)
    plain = load_model(previous)(ids_BT, attention_mask=mask_BT).logits[where_BT]
    torch.testing.assert_close(said, copy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(copy, plain, rtol=1e-5, atol=1e-5)
    assert not said.requires_grad
    assert not copy.requires_grad
    assert (said - trained_logits).abs().max() > 0.1
    assert state(model) == as_it_was
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if ".previous." in name)
    torch.testing.assert_close(model.eval()(ids_BT, attention_mask=mask_BT).logits[where_BT], trained_logits)


def test_a_teacher_that_fails_leaves_the_model_as_it_was(toy, adapter):
    model = apply(load_model(adapter, train=True), Lora(rank=4)).model.train()
    teacher = SameBase(model, adapter)
    as_it_was = state(model)
    with pytest.raises(IndexError):
        teacher.logits(torch.tensor([[10_000]]), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert state(model) == as_it_was


def test_an_adapter_goes_on_from_the_last_one_and_is_saved_alone(toy, adapter, tmp_path):
    job = replace(toy.job(tmp_path, task="place", tune=LORA, train=BRIEF, protect=KEEP), start=adapter)
    after = train(job)
    assert after.kind == "adapter"
    assert furthest(tensors(after), tensors(replace(after, folder=adapter.adapter))) > 1e-3
    assert sorted(path.name for path in after.folder.iterdir() if path.is_dir()) == []
    settings = json.loads((after.folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == toy.base.model
    assert settings["r"] == 4
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(toy.base.model), str(after.folder)).eval()
    ours = load_model(weights_of(after, toy.base))
    ids_BT, mask_BT, _ = batch()
    torch.testing.assert_close(
        plain(ids_BT, attention_mask=mask_BT).logits, ours(ids_BT, attention_mask=mask_BT).logits
    )
    assert list(plain.peft_config) == ["default"]
    assert AutoTokenizer.from_pretrained(after.folder).chat_template == toy.tokenizer.chat_template


def test_distillation_protects_an_adapter_through_the_one_before(toy, adapter, tmp_path):
    def learn(folder, protect):
        job = toy.job(
            tmp_path / folder, task="place", memory=("paint", "feed"), tune=LORA, train=BRIEF, protect=protect
        )
        return weights_of(train(replace(job, start=adapter)), toy.base)

    plain, kept = learn("plain", "none"), learn("kept", KEEP)
    assert toy.loss(kept, "paint") < toy.loss(plain, "paint") - 1


def test_freezing_keeps_frozen_tensors_to_the_bit(toy, tmp_path):
    trained = toy.learn(tmp_path, tune={"name": "freeze", "trainable_layers": 1}, protect=KEEP, train=BRIEF)
    before, after = load_model(toy.base).state_dict(), AutoModelForCausalLM.from_pretrained(trained.folder).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)


def test_a_full_model_made_from_an_adapter_starts_where_it_was(toy, adapter, tmp_path):
    merged = apply(load_model(adapter, train=True), Full())
    ids_BT, mask_BT, _ = batch()
    before = load_model(adapter)(ids_BT, attention_mask=mask_BT).logits
    torch.testing.assert_close(merged.model.eval()(ids_BT, attention_mask=mask_BT).logits, before, rtol=1e-4, atol=1e-4)
    assert apply(load_model(adapter, train=True), Freeze(trainable_layers=1)).kind == "full"
    job = replace(toy.job(tmp_path, task="place", train=BRIEF, protect=KEEP), start=adapter)
    after = train(job)
    assert after.kind == "full"
    assert not (after.folder / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(after.folder)
    assert {type(module).__module__.split(".")[0] for module in plain.modules()} <= {"torch", "transformers"}
    torch.testing.assert_close(
        plain(ids_BT, attention_mask=mask_BT).logits,
        load_model(weights_of(after))(ids_BT, attention_mask=mask_BT).logits,
    )
    assert AutoTokenizer.from_pretrained(after.folder).chat_template == toy.tokenizer.chat_template


def test_a_full_model_is_kept_in_the_type_it_was_stored_in(toy, tmp_path):
    load_model(toy.base).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    toy.tokenizer.save_pretrained(tmp_path / "base")
    small = toy.base.changed(model=str(tmp_path / "base"))
    trained = train(replace(toy.job(tmp_path, train={"max_steps": 2}), start=small))
    assert {tensor.dtype for tensor in tensors(trained).values()} == {torch.bfloat16}
