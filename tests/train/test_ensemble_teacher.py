"""What training makes of several adapters that answer together: a teacher, and no start."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nacre.base.errors import InputError
from nacre.model.ensemble import Plan
from nacre.model.load import load_model
from nacre.records import Weights
from nacre.train.run import train
from nacre.train.teacher import FrozenCopy
from toy_kit import Toy


@pytest.fixture(scope="module")
def mean(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        folders.append(tmp_path_factory.mktemp("member"))
        get_peft_model(load_model(toy.base, train=True), config).save_pretrained(str(folders[-1]))
    folder = tmp_path_factory.mktemp("mean")
    Plan("mean", ("member_1", "member_2"), (0.5, 0.5)).save(folder, folders)
    return toy.base.changed(identity="mean", adapter=folder)


def test_a_frozen_ensemble_teaches_what_its_members_expect_together(mean: Weights) -> None:
    teacher = FrozenCopy(mean, torch.device("cpu"))
    ids_BT = torch.tensor([[5, 9, 12, 7], [6, 8, 11, 0]])
    mask_BT = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    where_BT = torch.tensor([[False, True, True, False], [False, True, False, False]])
    found_PV = teacher.logits(ids_BT, mask_BT, where_BT)
    with torch.no_grad():
        members = [
            load_model(mean.changed(adapter=Path(str(mean.adapter)) / name)) for name in ("member_1", "member_2")
        ]
        apart = [one(input_ids=ids_BT, attention_mask=mask_BT).logits[where_BT].softmax(-1) for one in members]
    torch.testing.assert_close(found_PV.softmax(-1), (apart[0] + apart[1]) / 2, atol=1e-5, rtol=1e-4)
    assert (apart[0] - apart[1]).abs().max() > 0.01


@pytest.mark.parametrize("protect", ["none", ["separate"]])
def test_several_adapters_are_no_start_of_a_training(toy: Toy, mean: Weights, tmp_path: Path, protect) -> None:
    job = toy.job(tmp_path, memory=(), tune={"name": "lora", "rank": 4}, protect=protect)
    with pytest.raises(InputError, match="several adapters that answer together") as refused:
        train(replace(job, start=mean))
    assert "--by merge" in refused.value.fix
