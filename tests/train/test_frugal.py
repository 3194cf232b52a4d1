"""What a run leaves out: scores nobody needs, digits that a processor need not have, blocks it has computed before."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from train_kit import furthest, tensors
from transformers import LlamaForCausalLM

from nacre.model.chat import IGNORED, Encoded
from nacre.records import Train
from nacre.records.tune import Freeze, Full, Lora
from nacre.train import packing, rows
from nacre.train.arguments import BF16_PARAMETERS, halve_frozen, settled_precision
from nacre.train.padding import unpadded
from nacre.train.trainer import SparseHead
from toy_kit import ask, make_model, make_tokenizer, make_toy, weights_of

BRIEF = {"max_steps": 4, "save_steps": 100, "scheduler": "constant", "warmup": 0, "logging_steps": 1}
HAS, HAS_NOT = {"avx512_bf16": True}, {"avx2": True, "avx512_bf16": False}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(packing, "WIDE", 1)


@pytest.mark.parametrize(
    ("asked", "capabilities", "parameters", "expected"),
    [
        ("auto", HAS, BF16_PARAMETERS, "bf16"),
        ("auto", HAS, BF16_PARAMETERS - 1, "auto"),
        ("auto", HAS_NOT, BF16_PARAMETERS, "auto"),
        ("fp32", HAS, BF16_PARAMETERS, "fp32"),
    ],
    ids=["large", "small", "no bf16 there", "asked for fp32"],
)
def test_bf16_is_chosen_for_large_models_where_the_processor_has_it_and_is_said(
    asked, capabilities, parameters, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    settings, notes = settled_precision(Train(precision=asked), parameters)
    assert settings.precision == expected
    assert bool(notes) == (expected == "bf16")


@pytest.mark.parametrize(
    ("tune", "halved"),
    [(Lora(), True), (Lora(dora=True), False), (Lora(init="pissa"), False), (Full(), False), (Freeze(), False)],
    ids=["lora", "dora", "pissa", "full", "freeze"],
)
def test_only_a_base_that_is_not_saved_is_held_in_bf16_and_what_trains_never_is(tune, halved):
    model = make_model(make_tokenizer())
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    halve_frozen(adapted, tune)
    types = {weight.requires_grad: weight.dtype for weight in adapted.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16 if halved else torch.float32}


def test_an_adapter_of_which_a_part_does_not_train_keeps_that_part_to_the_last_digit(toy, tmp_path):
    """It is saved, unlike the base below it."""
    first = toy.learn(tmp_path / "first", tune="lora", train=BRIEF)
    start = {"start": weights_of(first, toy.base)}
    train = {**BRIEF, "precision": "bf16"}
    freeze = [{"name": "freeze", "first": 1}]
    later = toy.learn(tmp_path / "later", tune="lora", protect=freeze, train=train, job=start)
    for name, weight in tensors(first).items():
        assert torch.equal(tensors(later)[name], weight) == (".layers.0." in name), name


@pytest.mark.parametrize("tune", ["full", {"name": "freeze", "trainable_layers": 1}, {"name": "lora"}], ids=str)
def test_the_head_beside_the_forward_pass_teaches_what_the_models_own_does(tune, toy, spy, tmp_path, monkeypatch):
    grads = []
    for own in (None, False):
        spy.steps.clear()
        monkeypatch.setattr(SparseHead, "own_head", own)
        trained = toy.learn(tmp_path / str(own), tune=tune, protect=["spy"], train={**BRIEF, "learning_rate": 1e-4})
        grads.append((list(spy.steps), trained.final_loss))
    assert grads[0][1] == pytest.approx(grads[1][1], abs=1e-5)
    assert len(grads[0][0]) == 4
    for one, other in zip(grads[0][0], grads[1][0], strict=True):
        assert furthest(one, other) < 1e-6


def test_a_model_that_makes_its_logits_in_another_way_keeps_its_own_head(toy, tmp_path, monkeypatch):
    forward, kept = LlamaForCausalLM.forward, []

    def louder(self, *args, logits_to_keep=0, **given):
        found = forward(self, *args, logits_to_keep=logits_to_keep, **given)
        if self.training and isinstance(logits_to_keep, torch.Tensor):
            kept.append(int(logits_to_keep.sum()))
        found.logits = found.logits * 1.5
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", louder)
    trained = toy.learn(tmp_path, train=BRIEF)
    assert kept == [4, *[16] * 4], "a few positions are looked at, then all that have a label are the model's own"
    assert sum("makes its logits in a way of its own" in note for note in trained.notes) == 1
    monkeypatch.setattr(SparseHead, "own_head", False)
    assert furthest(tensors(trained), tensors(toy.learn(tmp_path / "own", train=BRIEF))) == 0


@pytest.mark.parametrize("tune", [{"name": "freeze", "trainable_layers": 1}, "full"], ids=["freeze", "full"])
def test_packed_and_with_kept_states_a_run_ends_where_it_ends_without(tune, toy, wide, tmp_path, monkeypatch):
    lean = toy.learn(tmp_path / "lean", tune=tune, train={**BRIEF, "max_steps": 14})
    monkeypatch.setattr(packing, "WIDE", 10_000)
    plain = toy.learn(tmp_path / "plain", tune=tune, train={**BRIEF, "max_steps": 14, "trunk_cache": "off"})
    assert furthest(tensors(lean), tensors(plain)) < 1e-4
    assert "the rows of a batch run packed, each attending to itself" in lean.notes
    assert any("in groups of like length, because the model is small" in note for note in plain.notes)
    read = [note for note in lean.notes if "states of 64 rows were read and of 48 computed" in note]
    assert len(read) == (tune != "full")
    assert (tmp_path / "lean" / "memory" / "trunk").exists() == (tune != "full")


def test_the_next_increment_on_the_same_blocks_computes_none_of_them(toy, tmp_path):
    tune = {"name": "freeze", "trainable_layers": 1}
    toy.learn(tmp_path, tune=tune, train={**BRIEF, "max_steps": 12})
    again = toy.learn(
        tmp_path / "later", tune=tune, train={**BRIEF, "max_steps": 12}, job={"shared": tmp_path / "memory"}
    )
    assert any("states of 96 rows were read and of 0 computed" in note for note in again.notes)


@pytest.mark.parametrize(
    "tune", ["lora", {"name": "freeze", "trainable_layers": 1}, "full"], ids=["lora", "freeze", "full"]
)
def test_in_bf16_the_rows_are_packed_too_and_the_loss_is_nearly_that_of_fp32(tune, toy, wide, tmp_path):
    found = {}
    for precision in ("fp32", "bf16"):
        settings = {**BRIEF, "precision": precision, "learning_rate": 1e-4}
        found[precision] = toy.learn(tmp_path / precision, tune=tune, train=settings)
        assert "the rows of a batch run packed, each attending to itself" in found[precision].notes
    assert found["bf16"].final_loss == pytest.approx(found["fp32"].final_loss, rel=0.02)
    frozen = [name for name in tensors(found["fp32"]) if "layers.0." in name]
    for name in frozen if tune != "full" else []:
        if tune != "lora":
            assert torch.equal(tensors(found["fp32"])[name], tensors(found["bf16"])[name]), "to the last digit"


class TrlsOwn:
    """The trainer behind the mixin."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return "TRL's fused head"


def test_on_another_device_trls_fused_head_and_whole_batches_are_left_as_they_are():
    class Trainer(SparseHead, TrlsOwn):
        pass

    elsewhere = make_model(make_tokenizer()).to("meta")  # any device that is no CPU
    batch = {name: torch.ones(1, 4, dtype=torch.long, device="meta") for name in ("input_ids", "labels")}
    assert Trainer().compute_loss(elsewhere, batch) == "TRL's fused head"
    with unpadded(elsewhere) as told:
        assert told == ""
        assert "forward" not in elsewhere.get_decoder().__dict__


def test_a_row_of_which_only_the_first_token_has_a_label_is_left_out_and_counted(toy, monkeypatch):
    """Nothing stands before it to predict it from, so such a row would train nothing, and the loss be no number."""
    encoded = iter([Encoded([5], [5]), Encoded([4, 5], [IGNORED, 5])])
    monkeypatch.setattr(rows, "encode", lambda *given: next(encoded))
    notes = []
    kept = rows.encode_rows([ask("cat", "red"), ask("dog", "blue")], toy.tokenizer, 64, notes)
    assert [row.input_ids for row in kept] == [[4, 5]]
    assert notes == ["1 rows were left out: no token of an answer in them"]
