import pytest
import torch
from peft import PeftModelForCausalLM, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from pydantic import TypeAdapter, ValidationError
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from nacre.base.errors import InputError
from nacre.model import quantised
from nacre.model.prompts import PromptLearned
from nacre.model.quantised import quantisation
from nacre.model.tuners import apply
from nacre.records import Recipe
from nacre.records.tune import TUNERS, AdaLora, Adapter, Freeze, Full, Ia3, Lora, Oft, Prompt, QLora, Tune
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


# --- settings


def test_every_tuner_is_known_by_its_name():
    adapter = TypeAdapter(Tune)
    assert [adapter.validate_python(name).name for name in TUNERS] == list(TUNERS)
    assert all(adapter.validate_json(adapter.validate_python(name).model_dump_json()) for name in TUNERS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "lora", "init": "pissa", "dora": True}, "with dora"),
        ({"name": "lora", "init": "olora", "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"name": "lora", "init": "orthogonal", "rank": 3}, "even rank"),
        ({"name": "adalora", "rank": 8, "start_rank": 8}, "nothing to take away"),
        ({"name": "adalora", "warmup": 0.6, "settle": 0.4}, "no steps"),
    ],
)
def test_what_cannot_be_is_refused_in_the_settings(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(Tune).validate_python(settings)


def test_prefix_and_checkpointing_are_refused_together():
    with pytest.raises(ValidationError, match="checkpointing throws away"):
        Recipe.model_validate({"tune": "prefix", "train": {"gradient_checkpointing": True}})


# --- targets


@pytest.mark.parametrize(
    ("tune", "where"),
    [
        (Lora(modules_to_save=("lm_haed",)), "tune.modules_to_save"),
        (Adapter(target=("o_prj",)), "tune.target"),
        (AdaLora(target=("q_pro",)), "tune.target"),
        (Ia3(target=("k_pro",)), "tune.target"),
        (Ia3(target=("k_proj",), feedforward=("down_proj",)), "tune.feedforward"),
        (Oft(block_size=24), "tune.block_size"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_a_way_out(tune, where, tokenizer):
    with pytest.raises(InputError) as refused:
        apply(make_model(tokenizer), tune)
    assert refused.value.where == where
    assert refused.value.fix


def test_a_model_without_usual_names_must_be_told_where():
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16))
    model.config.model_type = "unheard-of"
    with pytest.raises(InputError, match="no usual choice of modules for IA3"):
        apply(model, Ia3())


def test_bottlenecks_sit_where_blocks_write(tokenizer):
    tuned = apply(make_model(tokenizer), Adapter(width=4, scale=3.0))
    names = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained(tuned.model)}
    assert names == {"o_proj", "down_proj"}
    layer = tuned.model.get_base_model().model.layers[0].mlp.down_proj
    assert layer.scaling["default"] == 3.0


def test_qlora_without_bitsandbytes_names_the_extra(monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    with pytest.raises(InputError) as refused:
        quantisation(QLora(), torch.float32)
    assert "nacre[qlora]" in refused.value.fix


# --- virtual tokens

PROMPTS = {
    "prompt": PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    "p-tuning": PromptEncoderConfig(num_virtual_tokens=5, encoder_hidden_size=16, task_type="CAUSAL_LM"),
    "prefix": PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
}


def behind_prompts(kind: str, tokenizer, wrapper) -> torch.nn.Module:
    torch.manual_seed(1)
    return wrapper(make_model(tokenizer), PROMPTS[kind]).eval()


@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_virtual_tokens_are_those_of_peft_and_the_text_keeps_its_length(kind, tokenizer):
    ids_BT = torch.arange(6, 22).reshape(2, 8)
    mask_BT = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    theirs = behind_prompts(kind, tokenizer, PeftModelForCausalLM)(input_ids=ids_BT, attention_mask=mask_BT).logits
    model = behind_prompts(kind, tokenizer, PromptLearned)
    ours = model(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
    assert ours.logits.shape[:2] == ids_BT.shape
    assert all(layer_BTD.shape[1] == 8 for layer_BTD in ours.hidden_states)
    torch.testing.assert_close(ours.logits, theirs[:, -8:])
    plain = make_model(tokenizer)(ids_BT, attention_mask=mask_BT).logits
    assert (ours.logits - plain)[mask_BT.bool()].abs().max() > 1e-3
    with model.disable_adapter():
        torch.testing.assert_close(model(ids_BT, attention_mask=mask_BT).logits, plain)


@pytest.mark.parametrize("own_cache", [False, True])
@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_with_a_cache_and_padding_on_the_left_the_next_tokens_are_the_same(kind, own_cache, tokenizer):
    model = behind_prompts(kind, tokenizer, PromptLearned)
    long, short = torch.arange(6, 14), torch.arange(20, 25)
    ids_BT = torch.stack([long, torch.cat([torch.zeros(3, dtype=torch.long), short])])
    mask_BT = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config) if own_cache else None
    first = model(ids_BT, attention_mask=mask_BT, position_ids=positions_BT, past_key_values=cache, use_cache=True)
    assert not own_cache or first.past_key_values is cache
    more_B1 = torch.tensor([[30], [31]])
    mask_BT = torch.cat([mask_BT, torch.ones(2, 1, dtype=torch.long)], dim=1)
    second = model(
        more_B1,
        attention_mask=mask_BT,
        position_ids=positions_BT[:, -1:] + 1,
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    for row, text in enumerate((long, short)):
        whole = model(torch.cat([text, more_B1[row]])[None]).logits[0]
        torch.testing.assert_close(first.logits[row, -1], whole[-2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(second.logits[row, -1], whole[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_transformers_generates_behind_virtual_tokens_as_step_by_step(kind, tokenizer):
    model = behind_prompts(kind, tokenizer, PromptLearned)
    ids_BT = torch.arange(6, 12)[None]
    said = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=6, do_sample=False)
    for _ in range(said.shape[1] - 6):
        ids_BT = torch.cat([ids_BT, model(ids_BT).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(said, ids_BT)


def test_the_context_is_shorter_by_the_virtual_tokens(tokenizer):
    model = make_model(tokenizer)
    tuned = apply(model, Prompt(tokens=8)).model
    assert tuned.config.max_position_embeddings == 128 - 8
