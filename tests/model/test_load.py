import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from nacre.base.errors import InputError, NacreError
from nacre.model.chat import DEFAULT_TEMPLATE
from nacre.model.environment import environment
from nacre.model.load import load_model, load_tokenizer, parameter_count, positions
from nacre.records import Weights


@pytest.fixture
def copy(toy, tmp_path):
    """A copy of the toy's folder that a test may damage."""
    folder = tmp_path / "model"
    shutil.copytree(toy.base.model, folder)
    return Weights(identity="copy", model=str(folder))


def test_a_folder_is_loaded_for_answering_or_for_training(toy):
    answering, training = load_model(toy.base), load_model(toy.base, train=True)
    assert not answering.training
    assert answering.dtype == training.dtype == torch.float32
    assert parameter_count(toy.base) == sum(weight.numel() for weight in answering.parameters())
    assert positions(toy.base) == 128


def test_a_tokenizer_without_a_template_gets_the_default_one_and_a_padding_token(copy):
    assert load_tokenizer(copy).chat_template == DEFAULT_TEMPLATE
    settings = Path(copy.model) / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"pad_token": "<pad>",', ""))
    tokenizer = load_tokenizer(copy)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("load", [load_model, load_tokenizer, parameter_count])
def test_a_folder_that_does_not_exist_is_named(load, tmp_path):
    with pytest.raises(InputError, match="cannot load") as refused:
        load(Weights(identity="none", model=str(tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere") in refused.value.where
    assert "Traceback" not in str(refused.value)


def test_a_folder_without_configuration_is_no_model(copy):
    (Path(copy.model) / "config.json").unlink()
    for load in (load_model, parameter_count, positions):
        with pytest.raises(InputError, match="cannot load the model"):
            load(copy)


def test_a_torn_weights_file_is_named(copy):
    weights = Path(copy.model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(NacreError, match="the weights file is torn") as torn:
        load_model(copy)
    assert torn.value.where == copy.model


def test_pickled_weights_are_refused(copy):
    folder = Path(copy.model)
    torch.save(load_model(copy).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot load the model") as refused:
        load_model(copy)
    assert "safetensors" in str(refused.value)


def test_an_adapter_folder_without_an_adapter_is_named(copy, tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(InputError, match="cannot load") as refused:
        load_model(copy.changed(adapter=tmp_path / "adapter"))
    assert str(tmp_path / "adapter") in str(refused.value)


def test_models_may_be_asked_for_by_several_threads(toy, monkeypatch):
    tie = PreTrainedModel.tie_weights
    monkeypatch.setattr(PreTrainedModel, "tie_weights", tie)  # put back if this fails, for the tests that follow
    given = load_model(toy.base).state_dict()
    with ThreadPoolExecutor(4) as pool:
        counted = [pool.submit(parameter_count, toy.base) for _ in range(20)]
        loaded = [pool.submit(load_model, toy.base) for _ in range(20)]
    assert {one.result() for one in counted} == {parameter_count(toy.base)}
    for one in loaded:
        torch.testing.assert_close(dict(one.result().state_dict()), dict(given), rtol=0, atol=0)
    assert PreTrainedModel.tie_weights is tie
    assert torch.get_default_dtype() == torch.float32


def test_the_environment_names_what_decides_a_result():
    here = environment()
    assert here.packages["torch"].startswith(torch.__version__.split("+")[0])
    assert {"transformers", "trl", "peft", "nacre"} <= here.packages.keys()
    assert here.device
