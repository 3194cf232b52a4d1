import pytest
import torch

from nacre.base.errors import InputError
from nacre.model.tuners import apply
from nacre.records.tune import Freeze, Full, Lora
from toy_kit import make_model, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_full_trains_everything(tokenizer):
    tuned = apply(make_model(tokenizer), Full())
    assert trained(tuned.model) == {name for name, _ in tuned.model.named_parameters()}
    assert (tuned.kind, tuned.summary.split(":")[0]) == ("full", "every layer")


@pytest.mark.parametrize("tune", [Freeze(trainable_layers=1), Freeze(frozen_layers=2)])
def test_freeze_trains_the_last_layers_only(tokenizer, tune):
    tuned = apply(make_model(tokenizer, num_hidden_layers=3), tune)
    names = trained(tuned.model)
    assert names == {name for name, _ in tuned.model.named_parameters() if name.startswith("model.layers.2.")}
    assert tuned.summary.startswith("the last 1 of 3 layers")


@pytest.mark.parametrize(
    ("tune", "key"), [(Freeze(trainable_layers=3), "trainable_layers"), (Freeze(frozen_layers=2), "frozen_layers")]
)
def test_layers_out_of_range_are_refused(tokenizer, tune, key):
    with pytest.raises(InputError) as refused:
        apply(make_model(tokenizer), tune)
    assert refused.value.where == f"tune.{key}"
    assert "the model has 2 layers" in refused.value.fix


def test_an_unknown_lora_target_is_answered_with_the_nearest(tokenizer):
    with pytest.raises(InputError, match="LoRA target 'q_pro' is no linear module") as refused:
        apply(make_model(tokenizer), Lora(target=("q_pro",)))
    assert refused.value.fix.startswith("did you mean 'q_proj'?")
    assert "v_proj" in refused.value.fix


@pytest.mark.parametrize(("target", "modules"), [(("all-linear",), 7), (("all",), 7), (("q_proj", "v_proj"), 2)])
def test_lora_trains_adapters_on_the_targets_and_changes_nothing_yet(tokenizer, target, modules):
    plain, model = make_model(tokenizer), make_model(tokenizer)
    tuned = apply(model, Lora(rank=4, target=target))
    names = trained(tuned.model)
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 2 * modules  # A and B, in each of two layers
    assert tuned.kind == "adapter"
    assert tuned.model.peft_config["default"].lora_alpha == 8
    ids = torch.arange(6, 12)[None]
    torch.testing.assert_close(tuned.model(ids).logits, plain(ids).logits)


def test_another_rank_than_the_adapters_own_is_said(tokenizer):
    tuned = apply(make_model(tokenizer), Lora(rank=4))
    again = apply(tuned.model, Lora(rank=16))
    assert again.model is tuned.model
    assert "rank 4, goes on with the adapter's own; 16 was asked for" in again.summary
    assert "asked for" not in apply(tuned.model, Lora(rank=4)).summary


def test_what_trains_of_a_small_float_model_is_held_in_float32(tokenizer):
    tuned = apply(make_model(tokenizer).to(torch.bfloat16), Freeze(trainable_layers=1))
    kinds = {weight.requires_grad: weight.dtype for weight in tuned.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
