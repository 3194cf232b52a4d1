"""Zeros of a pruned version stay zeros when it is trained on; what begins at zero for another reason learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.smaller.base import whole_model
from nacre.model.smaller.int8 import Int8
from nacre.model.smaller.pruned import Pruned, pruned_layers, zeros_of
from nacre.records import Environment, Manifest, Recipe, Weights
from nacre.records.manifest import MANIFEST
from nacre.train.run import train
from nacre.train.sparse import hold_zeros
from toy_kit import Toy, make_model, make_tokenizer, weights_of


def made(toy: Toy, folder: Path, way, method: str | None = None) -> Weights:
    folder.mkdir()
    asked = way.settled(method, None, None)
    way.write(whole_model(toy.base), folder, asked, [])
    toy.tokenizer.save_pretrained(folder)
    where = Environment(python="", packages={}, machine="", device="")
    manifest = Manifest(kind=asked.to, base="", base_sha256="", recipe=Recipe(), environment=where, compressed=asked)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return Weights(identity=str(folder), model=str(folder))


def test_a_pruned_version_learns_and_stays_pruned(toy: Toy, tmp_path: Path) -> None:
    start = made(toy, tmp_path / "pruned", Pruned(), "magnitude")
    before = {name: layer.weight.detach() for name, layer in pruned_layers(load_model(start))}
    trained = train(replace(toy.job(tmp_path, protect=["replay"]), start=start))
    after = {name: layer.weight.detach() for name, layer in pruned_layers(load_model(weights_of(trained)))}
    for name, weight in before.items():
        assert torch.equal(after[name] == 0, weight == 0), name
        assert (after[name] != weight).any(), name
    assert any(note.startswith("pruned: 20% of the linear layers") for note in trained.notes)
    assert toy.loss(weights_of(trained), "feed") < toy.loss(start, "feed") / 2


def test_without_holding_they_are_filled(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above shows is not so by itself."""
    monkeypatch.setattr("nacre.train.run.hold_zeros", lambda model: [])
    start = made(toy, tmp_path / "pruned", Pruned(), "magnitude")
    trained = train(replace(toy.job(tmp_path, train={"epochs": 1.0}), start=start))
    assert zeros_of(load_model(weights_of(trained))) < 0.01


def test_layers_that_begin_at_nothing_are_not_held() -> None:
    model = make_model(make_tokenizer())
    nn.init.zeros_(model.model.layers[0].mlp.down_proj.weight)
    assert hold_zeros(model) == []


def test_adapters_on_a_pruned_version_learn(toy: Toy, tmp_path: Path) -> None:
    start = made(toy, tmp_path / "pruned", Pruned(), "magnitude")
    trained = train(replace(toy.job(tmp_path, tune={"name": "lora", "rank": 8}), start=start))
    assert toy.loss(weights_of(trained, start), "feed") < toy.loss(start, "feed")


def test_rounded_weights_are_not_trained_on(toy: Toy, tmp_path: Path) -> None:
    start = made(toy, tmp_path / "small", Int8())
    with pytest.raises(InputError, match="was rounded to int8") as refused:
        train(replace(toy.job(tmp_path), start=start))
    assert "train from the version that it was made of" in refused.value.fix
    assert not (tmp_path / "run").exists()
