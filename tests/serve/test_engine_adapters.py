"""Adapters are looked at before they are loaded: one line says what is wrong, and nothing of them stays."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_kit import chat, loaded, make_adapter, said, with_engine
from safetensors.torch import load_file, save_file
from serving_kit import ANSWERS, QUESTION, Shelf
from transformers import LlamaConfig, LlamaForSequenceClassification

from nacre.base.errors import InputError, NacreError
from nacre.records import Weights
from nacre.serve.engines import Sampling, Target

FILE = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def good(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_adapter(shelf.weights(0), tmp_path_factory.mktemp("good") / "adapter", 1)


def _tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / FILE)
        change(tensors)
        save_file(tensors, folder / FILE)

    return apply


def _config(**changed: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return apply


def _first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in tensors if part in name)


def _spoil(number: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors[_first(tensors, "lora_B")].view(-1)[-1:].fill_(number)


def _other_base(tensors: dict[str, torch.Tensor]) -> None:
    name = _first(tensors, "lora_A")
    tensors[name] = torch.zeros(8, 48)


def _renamed(tensors: dict[str, torch.Tensor]) -> None:
    for part in ("lora_A", "lora_B"):
        name = _first(tensors, part)
        tensors[name.replace("layers.0", "layers.77")] = tensors.pop(name)


def _bomb(tensors: dict[str, torch.Tensor]) -> None:
    name = _first(tensors, "q_proj.lora_A")
    tensors[name] = torch.zeros(300, 32)
    tensors[name.replace("lora_A", "lora_B")] = torch.zeros(32, 300)


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / FILE), folder / "adapter_model.bin")
    (folder / FILE).unlink()


ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no number": (_tensors(_spoil(float("nan"))), "not all numbers"),
    "infinite": (_tensors(_spoil(float("inf"))), "not all numbers"),
    "shapes of another base": (_tensors(_other_base), "takes 64"),
    "layers of another base": (_tensors(_renamed), "no layer"),
    "half a pair": (_tensors(lambda tensors: tensors.pop(_first(tensors, "lora_B"))), "half of a pair"),
    "rank bomb in the file": (_tensors(_bomb), "rank is 300"),
    "rank bomb in the configuration": (_config(r=10**9), "rank is 1e"),
    "rank bomb in a pattern": (_config(rank_pattern={"q_proj": 999}), "rank is 999"),
    "pickled": (_pickled, "pickled"),
    "torn": (lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-64]), "torn"),
    "no safetensors": (lambda folder: (folder / FILE).write_bytes(b"\x80\x04" + b"x" * 99), "torn"),
    "empty": (_tensors(lambda tensors: tensors.clear()), "no weights"),
    "no configuration": (lambda folder: (folder / "adapter_config.json").write_text("{"), "configuration"),
    "nothing": (lambda folder: (folder / FILE).unlink(), "missing"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_wrong_with_an_adapter_is_said_before_it_is_loaded(attack: str, good: Weights, tmp_path: Path) -> None:
    change, what = ATTACKS[attack]
    shutil.copytree(Path(str(good.adapter)), tmp_path / "bad")
    change(tmp_path / "bad")

    async def scenario(engine):
        base = await loaded(engine, 1, good.changed(adapter=None))
        with pytest.raises(InputError, match=what) as caught:
            await engine.load(Target(2, good.changed(adapter=tmp_path / "bad")))
        assert str(tmp_path) in caught.value.where
        assert "\n" not in caught.value.what
        assert [target.version for target in engine.loaded] == [1]
        return await said(engine, base, chat(QUESTION), Sampling(temperature=0))

    assert with_engine(scenario) == ANSWERS[0]


def test_an_adapter_made_on_another_artifact_is_refused(good: Weights, tmp_path: Path) -> None:
    shutil.copytree(Path(str(good.adapter)), tmp_path / "adapter")
    shutil.copytree(good.model, tmp_path / ("b" * 64))
    (tmp_path / "adapter" / "nacre.json").write_text(json.dumps({"needs": "a" * 64}))
    weights = good.changed(model=str(tmp_path / ("b" * 64)), adapter=tmp_path / "adapter")

    async def scenario(engine):
        with pytest.raises(InputError, match="another base"):
            await engine.load(Target(2, weights))

    with_engine(scenario)


def test_the_cap_on_ranks_is_a_setting(good: Weights) -> None:
    async def scenario(engine):
        with pytest.raises(InputError, match="rank is 8") as caught:
            await engine.load(Target(2, good))
        assert "serve.embedded.max_rank" in caught.value.fix

    with_engine(scenario, max_rank=4)


def test_a_flipped_byte_is_an_error_of_one_line_or_no_error(good: Weights, tmp_path: Path) -> None:
    draw = random.Random(11)

    async def scenario(engine):
        base = await loaded(engine, 1, good.changed(adapter=None))
        refused = []
        for number in range(40):
            folder = tmp_path / str(number)
            shutil.copytree(Path(str(good.adapter)), folder)
            file = folder / ("adapter_config.json", FILE)[number % 2]
            data = bytearray(file.read_bytes())
            for _ in range(3):
                data[draw.randrange(min(len(data), 2000))] = draw.randrange(256)
            file.write_bytes(data)
            target = Target(2, good.changed(adapter=folder))
            try:
                await engine.load(target)
            except NacreError as error:
                refused.append(error.what)
            else:
                await engine.unload(target)
        assert len(refused) > 5
        assert not any("\n" in what for what in refused)
        return await said(engine, base, chat(QUESTION), Sampling(temperature=0))

    assert with_engine(scenario) == ANSWERS[0]


def test_a_reward_model_is_no_version_to_serve(shelf: Shelf, tmp_path: Path) -> None:
    config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
    config.vocab_size = 300
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shelf.folders[0] / name, tmp_path)

    async def scenario(engine):
        with pytest.raises(InputError, match="reward model"):
            await engine.load(Target(1, Weights(identity="1" * 64, model=str(tmp_path))))

    with_engine(scenario)
