"""Models made smaller: what is written, and that it answers as it did before it was written."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors import safe_open
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from nacre.base.errors import InputError
from nacre.model import quantised
from nacre.model.load import load_model, stored_dtype
from nacre.model.smaller import COMPRESSIONS, base, int4, int8
from nacre.model.smaller.base import whole_model
from nacre.model.smaller.pruned import input_norms, prune, pruned_layers, zeros_of
from nacre.records import Compressing, Weights
from toy_kit import Toy, make_model, make_tokenizer

IDS = torch.tensor([[6, 14, 20, 8, 3, 9, 21, 7]])
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def stored(model, folder: Path) -> Weights:
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return Weights(identity=str(folder), model=str(folder))


def compressed(weights: Weights, folder: Path, to: str, method: str | None = None) -> Weights:
    way = COMPRESSIONS.load(to)()
    folder.mkdir()
    way.write(whole_model(weights), folder, way.settled(method, None, None), [])
    return Weights(identity=str(folder), model=str(folder))


def bytes_of(weights: Weights) -> int:
    return sum(path.stat().st_size for path in Path(weights.model).glob("*.safetensors"))


@torch.no_grad()
def logits(weights: Weights) -> torch.Tensor:
    return load_model(weights)(IDS).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", ["weight-only", "dynamic"])
def test_int8_is_small_and_close_and_loads_again(method: str, tied: bool, tmp_path: Path) -> None:
    dense = stored(make_model(make_tokenizer(), tie_word_embeddings=tied, **WIDE), tmp_path / "dense")
    small = compressed(dense, tmp_path / "small", "int8", method)
    assert {path.suffix for path in Path(small.model).iterdir()} <= {".safetensors", ".json"}
    assert bytes_of(small) < 0.3 * bytes_of(dense)
    with safe_open(Path(small.model) / "model.safetensors", "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118  this is no mapping
    rows = [kind for name, kind in kinds.items() if name.endswith("_qdata")]
    assert rows == [torch.int8] * (7 * 2 + (1 if tied else 2))
    before, after = logits(dense), logits(small)
    assert 0 < (after - before).abs().max() < 0.1 * before.abs().max()
    loaded = load_model(small)
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


@pytest.mark.parametrize(("method", "error"), [("weight-only", 2e-4), ("dynamic", 3e-2)])
def test_products_of_integers_are_those_of_floats(method: str, error: float, tmp_path: Path) -> None:
    dense = stored(make_model(make_tokenizer(), **WIDE), tmp_path / "dense")
    layer = load_model(compressed(dense, tmp_path / "small", "int8", method)).model.layers[0].mlp.up_proj
    if not int8.has_integer_products():
        assert type(layer) is nn.Linear
        return
    assert type(layer) is int8.Int8Linear
    given = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
    given[0, 0] = 0
    given[1] *= 1e4
    with torch.no_grad():
        found, alone = layer(given), layer(given[2, 4])
        wanted = given @ layer.weight.dequantize().T
    assert ((found - wanted).abs() <= error * wanted.abs().amax(-1, keepdim=True)).all()
    assert torch.equal(found[2, 4], alone), "what stands beside a token changes nothing"
    assert layer(given.bfloat16()).dtype == torch.bfloat16


def test_int8_answers_after_loading_as_it_did_when_it_was_written(toy: Toy, tmp_path: Path) -> None:
    model = whole_model(toy.base)
    int8.round_weights(model, "weight-only")
    with torch.no_grad():
        written = int8.make_ready(model)(IDS).logits
    loaded = logits(compressed(toy.base, tmp_path / "small", "int8"))
    torch.testing.assert_close(loaded, written, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["nf4", "fp4"])
def test_four_bits_load_again(method: str, toy: Toy, tmp_path: Path) -> None:
    small = compressed(toy.base, tmp_path / "small", "int4", method)
    config = json.loads((Path(small.model) / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["bnb_4bit_quant_type"]) == ("bitsandbytes", method)
    assert {path.suffix for path in Path(small.model).iterdir()} <= {".safetensors", ".json"}
    first, again, dense = logits(small), logits(small), logits(toy.base)
    assert torch.equal(first, again)
    assert (first - dense).abs().max() > 0
    assert (first.argmax(-1) == dense.argmax(-1)).float().mean() > 0.5
    with pytest.raises(InputError, match="few bits already"):
        whole_model(small)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_methods_that_are_not_there_are_refused_by_name(method: str) -> None:
    with pytest.raises(InputError, match=f"{method} is not offered") as refused:
        int4.Int4().settled(method, None, None)
    assert "nf4" in refused.value.fix


@pytest.mark.parametrize(
    ("to", "given", "what"),
    [
        ("int8", ("dynamc", None, None), "unknown method of --to int8 'dynamc'"),
        ("int8", (None, 0.5, None), "takes no weight away"),
        ("merged", (None, None, 1.0), "takes no weight away"),
        ("merged", ("nf4", None, None), "unknown method of --to merged"),
        ("pruned", ("2:4", 0.8, None), "2:4 keeps 0.5"),
    ],
)
def test_options_that_do_not_fit_are_refused(to: str, given: tuple, what: str) -> None:
    with pytest.raises(InputError, match=what):
        COMPRESSIONS.load(to)().settled(*given)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, toy: Toy, tmp_path: Path) -> None:
    small = compressed(toy.base, tmp_path / "small", "int8")
    for module in (base, quantised):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for to, extra in (("int8", "smaller"), ("int4", "qlora")):
        with pytest.raises(InputError) as refused:
            COMPRESSIONS.load(to)().settled(None, None, None)
        assert f"nacre[{extra}]" in refused.value.fix
    with pytest.raises(InputError) as refused:
        load_model(small)
    assert "nacre[smaller]" in refused.value.fix


# --- pruning


def pruning(method: str, keep: float = 0.8) -> Compressing:
    return Compressing(to="pruned", method=method, keep=keep)


def test_magnitude_keeps_the_largest_of_each_matrix() -> None:
    model = make_model(make_tokenizer(), tie_word_embeddings=True)
    before = {name: layer.weight.detach().clone() for name, layer in pruned_layers(model)}
    assert not any("lm_head" in name for name in before)
    prune(model, pruning("magnitude"), [])
    for name, layer in pruned_layers(model):
        kept = layer.weight != 0
        assert kept.sum() == round(0.8 * kept.numel())
        assert before[name][kept].abs().min() >= before[name][~kept].abs().max()
        assert torch.equal(layer.weight[kept], before[name][kept])
    assert zeros_of(model) == pytest.approx(0.2, abs=0.01)


def test_wanda_lets_go_what_is_never_used_however_large(toy: Toy) -> None:
    model = whole_model(toy.base)
    layer = model.model.layers[0].mlp.down_proj
    gate = model.model.layers[0].mlp.gate_proj
    with torch.no_grad():
        gate.weight[:8] = 0  # these never reach down_proj, whose weights for them are the largest
        layer.weight[:, :8] = 10.0
    norms = input_norms(model, IDS.tolist())
    name = next(name for name, one in pruned_layers(model) if one is layer)
    assert norms[name][:8].max() == 0
    assert norms[name][8:].min() > 0
    notes = prune(model, pruning("wanda", keep=0.75), IDS.tolist())
    assert (layer.weight[:, :8] == 0).all()
    assert ((layer.weight != 0).sum(dim=1) == round(0.75 * layer.in_features)).all()
    assert "in 1 rows" in notes[0]


def test_wanda_without_rows_goes_by_size_and_says_so() -> None:
    model = make_model(make_tokenizer())
    assert "no rows are kept" in prune(model, pruning("wanda"), [])[1]
    assert zeros_of(model) == pytest.approx(0.2, abs=0.02)


def test_two_of_every_four_stay(toy: Toy) -> None:
    model = whole_model(toy.base)
    prune(model, pruning("2:4", keep=0.5), IDS.tolist())
    for _, layer in pruned_layers(model):
        assert ((layer.weight.reshape(-1, 4) != 0).sum(dim=1) == 2).all()
    odd = make_model(make_tokenizer(), intermediate_size=62)
    with pytest.raises(InputError, match="62 inputs, which is no multiple of 4"):
        prune(odd, pruning("2:4", keep=0.5), [])


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16))
    with pytest.raises(InputError, match="no linear layers to prune"):
        prune(model, pruning("magnitude"), [])


# --- what is made smaller is whole


def test_an_adapter_is_merged(toy: Toy, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = get_peft_model(load_model(toy.base), LoraConfig(r=4, target_modules=["q_proj", "up_proj"]))
    nn.init.normal_(model.base_model.model.model.layers[0].self_attn.q_proj.lora_B.default.weight, std=0.5)
    model.save_pretrained(tmp_path / "adapter")
    adapted = Weights(identity="adapted", model=toy.base.model, adapter=tmp_path / "adapter")
    merged = compressed(adapted, tmp_path / "merged", "merged")
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - logits(toy.base)).abs().max() > 1e-3
    assert stored_dtype(merged) == stored_dtype(toy.base)


def test_what_cannot_be_merged_is_refused(toy: Toy, tmp_path: Path) -> None:
    prompts = get_peft_model(load_model(toy.base), PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"))
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(InputError, match="virtual tokens cannot be merged"):
        whole_model(Weights(identity="prompts", model=toy.base.model, adapter=tmp_path / "prompts"))
    routed = tmp_path / "routed"
    routed.mkdir()
    (routed / "router.json").write_text("{}")
    with pytest.raises(InputError, match="several adapters behind a router"):
        whole_model(Weights(identity="routed", model=toy.base.model, adapter=routed))
